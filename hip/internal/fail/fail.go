// Package fail makes the errors of package hip and of its GPUs: text in front of what went
// wrong, with the package's name once, at the beginning, however often an error is
// wrapped.
package fail

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that a caller may look for. Package hip exports those that a caller acts on.
var (
	Closed      = New("device is closed")
	OutOfMemory = New("out of device memory")
	Access      = New("access outside of device memory")
	NoDevice    = New("no GPU device")
	Fault       = New("the device has faulted")
	Mismatch    = New("differs from the reference")
	NoSource    = New("the kernel has no GPU side")
	Recording   = New("only launches and copies can be recorded")
	Group       = New("the group has failed")
)

// Error is a text and what it wraps.
type Error struct {
	text string
	err  error // nil: the text says it all
}

// New returns an error that is compared by its address.
func New(text string) *Error { return &Error{text: text} }

// With puts a text in front of err.
func With(err error, format string, args ...any) error {
	return &Error{text: fmt.Sprintf(format, args...), err: err}
}

func (e *Error) Error() string { return "hip: " + e.Bare() }

// Bare is the text without the package's name.
func (e *Error) Bare() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + Bare(e.err)
}

func (e *Error) Unwrap() error { return e.err }

// Bare returns the text of an error without the package's name, where err or what it wraps
// begins with it.
func Bare(err error) string {
	var own interface {
		error
		Bare() string
	}
	if errors.As(err, &own) {
		return strings.Replace(err.Error(), own.Error(), own.Bare(), 1)
	}
	return err.Error()
}

// OutOf is an allocation of n bytes that failed.
func OutOf(n int64) error { return With(OutOfMemory, "%d bytes asked for", n) }

// Outside is a range that is not wholly inside one live allocation, or a write to memory
// that was adopted for reading.
func Outside(op string, p uint64, n int64) error {
	return With(Access, "%s of %d bytes at %#x", op, n, p)
}

// Kernel says which kernel did not compile, did not run to its end, or differs.
func Kernel(name string, err error) error { return With(err, "kernel %s", name) }
