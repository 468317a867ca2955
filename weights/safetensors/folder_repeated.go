package safetensors

import "strconv"

// duplicate is a tensor of a file that another file holds too.
type duplicate struct{ tensor, other string }

// repeated reports the tensors of f that other files hold, which are duplicates: one
// by one, or together where that is all of a file, two or more. Such a file is a copy,
// or lies beside the shards it was joined from.
func repeated(f *File, duplicates []duplicate, others map[string]*File) (errs []error) {
	shared := make(map[string][]duplicate)
	for _, d := range duplicates {
		shared[d.other] = append(shared[d.other], d)
	}
	whole := func(other string) bool {
		n := len(shared[other])
		return n > 1 && n == min(len(f.Tensors()), len(others[other].Tensors()))
	}
	for _, d := range duplicates {
		switch list := shared[d.other]; {
		case !whole(d.other):
			errs = append(errs, &FormatError{Tensor: d.tensor, File: f.Name(), Rule: ruleDuplicateTensor, Got: foundIn(d.other)})
		case d == list[0]:
			errs = append(errs, &FormatError{
				Tensor: d.tensor, File: f.Name(), Rule: ruleRepeatedFile,
				Got: strconv.Itoa(len(list)) + " of them in " + Printable(d.other), Want: "one of the files",
			})
		}
	}
	return errs
}
