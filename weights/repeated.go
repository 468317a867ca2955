package weights

import "fmt"

// RepeatedFileError says that of two files one holds every tensor of the other, two or
// more: a copy, or the shards beside the file they were cut from. It matches
// [ErrDuplicateTensor].
type RepeatedFileError struct {
	File, Other string
	Tensors     []*CheckpointError // one for each tensor that both hold, in the order of File's data
}

// Error returns one line: the files, how many tensors, and the first of them.
func (e *RepeatedFileError) Error() string {
	return fmt.Sprintf("%s: %s are in two files, %s first (found in %s): keep one of the files",
		e.File, count(len(e.Tensors), "tensor"), quote(e.Tensors[0].Tensor), e.Other)
}

// Unwrap returns what is said of each tensor.
func (e *RepeatedFileError) Unwrap() []error {
	errs := make([]error, len(e.Tensors))
	for i, t := range e.Tensors {
		errs[i] = t
	}
	return errs
}

// repeated reports the tensors of f that other files hold, which are duplicates: one
// by one, or together where that is all of a file.
func repeated(f *File, duplicates []*CheckpointError, others map[string]*File) (errs []error) {
	shared := make(map[string][]*CheckpointError)
	for _, d := range duplicates {
		shared[d.Other] = append(shared[d.Other], d)
	}
	whole := func(other string) bool {
		n := len(shared[other])
		return n > 1 && n == min(len(f.Tensors()), len(others[other].Tensors()))
	}
	for _, d := range duplicates {
		switch list := shared[d.Other]; {
		case !whole(d.Other):
			errs = append(errs, d)
		case d == list[0]:
			errs = append(errs, &RepeatedFileError{File: d.File, Other: d.Other, Tensors: list})
		}
	}
	return errs
}
