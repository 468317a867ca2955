package safetensors

import "strconv"

// duplicate is a tensor of a file that another file holds too.
type duplicate struct {
	tensor *Tensor
	other  *File
}

// repeated reports the tensors of f that other files hold, which are duplicates: one
// by one, or together where that is all of a file, two or more. Such a file is a copy,
// or lies beside the shards it was joined from.
func repeated(f *File, duplicates []duplicate, found *findings) {
	shared, reported := make(map[*File]int), make(map[*File]bool)
	for _, d := range duplicates {
		shared[d.other]++
	}
	for _, d := range duplicates {
		switch n := shared[d.other]; {
		case n == 1 || n < min(len(f.tensors), len(d.other.tensors)):
			found.report(ruleDuplicateTensor, func() *FormatError {
				return &FormatError{Tensor: d.tensor.Name, File: f.name, Got: foundIn(d.other.name)}
			})
		case !reported[d.other]:
			reported[d.other] = true
			found.report(ruleRepeatedFile, func() *FormatError {
				return &FormatError{
					Tensor: d.tensor.Name, File: f.name,
					Got: strconv.Itoa(n) + " of them in " + Printable(d.other.name), Want: "one of the files",
				}
			})
		}
	}
}
