package reference

import (
	"errors"
	"fmt"
)

var (
	// ErrTensor is matched by every TensorError.
	ErrTensor = errors.New("reference: unusable tensor")
	// ErrInput is matched by errors about the arguments of a call.
	ErrInput = errors.New("reference: invalid input")
)

// TensorError says why a tensor of the checkpoint cannot be used.
type TensorError struct {
	// Tensor is the name as stored, or without its prefix when it is missing.
	Tensor string
	// Got is what was found and Want what the config asks for.
	Got, Want string
	// Err is the failure of a read, if that was it.
	Err error
}

// Error returns "tensor <name>: got <got>, want <want>".
func (e *TensorError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("tensor %s: %v", e.Tensor, e.Err)
	}
	return fmt.Sprintf("tensor %s: got %s, want %s", e.Tensor, e.Got, e.Want)
}

// Unwrap makes the error match ErrTensor and its cause.
func (e *TensorError) Unwrap() []error { return []error{ErrTensor, e.Err} }

func inputError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInput}, args...)...)
}
