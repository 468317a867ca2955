package weights

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What can be wrong with a tensor, seen from the parameter that wants it. A
// [*Problem] wraps one of them.
var (
	// ErrMissing: a parameter is not wholly covered; the tensor is absent.
	ErrMissing = errors.New("tensor is missing")
	// ErrMissingLayer: no tensor of an MTP layer exists.
	ErrMissingLayer = errors.New("no tensor of the MTP layer")
	// ErrUnexpected: a tensor under the head's own prefix that nothing takes.
	ErrUnexpected = errors.New("no parameter takes the tensor")
	// ErrLoadedTwice: two tensors are the same part of the same parameter.
	ErrLoadedTwice = errors.New("part is given twice")
	// ErrWrongShape: the shape is not the one the config asks for.
	ErrWrongShape = errors.New("wrong shape")
	// ErrWrongDtype: the dtype is none that the parameter can have.
	ErrWrongDtype = errors.New("wrong dtype")
	// ErrMissingScale: a quantized weight has no scales beside it.
	ErrMissingScale = errors.New("weight has no scales")
	// ErrStrayScale: scales beside no weight, or beside one that has none.
	ErrStrayScale = errors.New("scales without a quantized weight")
	// ErrParam: a parameter contradicts itself, whatever the checkpoint.
	ErrParam = errors.New("invalid parameter")
)

// Problem is one thing wrong with a checkpoint.
type Problem struct {
	Tensor    string // in the checkpoint
	Parameter string // in the model; "" if there is none
	Got, Want string // "" where Err says it all
	Err       error
}

// Error returns one line: tensor, rule, what was got and wanted, and for which
// parameter.
func (p *Problem) Error() string {
	if errors.Is(p.Err, ErrMissingLayer) {
		return p.Want // a whole sentence
	}
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %v", printable(p.Tensor), p.Err)
	if p.Got != "" {
		s.WriteString(": got " + p.Got)
	}
	if p.Want != "" {
		s.WriteString(", want " + p.Want)
	}
	if p.Parameter != "" && p.Parameter != p.Tensor {
		s.WriteString(" (for " + p.Parameter + ")")
	}
	return s.String()
}

func (p *Problem) Unwrap() error { return p.Err }

// AuditError holds all problems of a checkpoint, sorted by tensor.
type AuditError struct {
	Problems []*Problem
}

// shownProblems is how many problems a message spells out.
const shownProblems = 32

// Error returns a line per problem, the first 32 of them.
func (e *AuditError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "checkpoint does not fit the head, %s:", count(len(e.Problems), "problem"))
	for i, p := range e.Problems {
		if i == shownProblems {
			fmt.Fprintf(&s, "\n  and %d more", len(e.Problems)-i)
			break
		}
		s.WriteString("\n  " + p.Error())
	}
	return s.String()
}

// Unwrap returns the problems.
func (e *AuditError) Unwrap() []error {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		errs[i] = p
	}
	return errs
}

// auditError returns the sorted problems as an error, or nil if there are none.
func auditError(problems []*Problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b *Problem) int { return cmp.Compare(a.Tensor, b.Tensor) })
	return &AuditError{Problems: problems}
}

// printable returns a name from a file as it is, or quoted where it is not plain
// text of a readable length.
func printable(name string) string {
	if q := quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
