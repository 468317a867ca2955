package reference

import "fmt"

// tensorError says why a tensor of the checkpoint cannot be used.
type tensorError struct {
	tensor    string // as stored, or without its prefix when it is missing
	got, want string // what was found, and what the config asks for
	err       error  // the failure of a read, if that was it
}

func (e *tensorError) Error() string {
	if e.err != nil {
		return fmt.Sprintf("reference: tensor %s: %v", e.tensor, e.err)
	}
	return fmt.Sprintf("reference: tensor %s: got %s, want %s", e.tensor, e.got, e.want)
}

func (e *tensorError) Unwrap() error { return e.err }
