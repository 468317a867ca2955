package mtp

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

var (
	// ErrClosed is a use of a head, cache or sequence after its Close.
	ErrClosed = errors.New("closed")
	// ErrInput is a batch, an argument beside it or an option of [Load] that is
	// refused before anything runs. Every [InputError] wraps it.
	ErrInput = errors.New("bad input")
	// ErrToken is a token id outside of the vocabulary.
	ErrToken = errors.New("token id outside of the vocabulary")
	// ErrNotAligned is an aligned draft on a sequence that was changed since its
	// last one otherwise than by Draft: see [ChainAligned].
	ErrNotAligned = errors.New("sequence has no state for aligned drafting")
)

// InputError names what is wrong with a call's input. It wraps [ErrInput] and,
// where there is one, the rule that was broken.
type InputError struct {
	Sequence int    // index in Batch.Sequences, or −1
	Field    string // "Tokens[3]", "Position", "Hidden", ...
	Got      any
	Want     string
	Err      error // ErrToken, ErrClosed ...; nil: the field says it
}

func (e *InputError) Error() string {
	where := ""
	if e.Sequence >= 0 {
		where = fmt.Sprintf("sequence %d: ", e.Sequence)
	}
	rule := ErrInput
	if e.Err != nil {
		rule = e.Err
	}
	return fmt.Sprintf("%s%s is %v, want %s: %v", where, e.Field, e.Got, e.Want, rule)
}

// Unwrap makes the error match ErrInput and Err.
func (e *InputError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrInput}
	}
	return []error{ErrInput, e.Err}
}

// argumentError makes an [InputError] of an argument that package attention refused; other
// errors are what they were.
func argumentError(err error) error {
	if e, ok := errors.AsType[*attention.ArgumentError](err); ok {
		return &InputError{Sequence: -1, Field: e.Argument, Got: e.Got, Want: e.Want, Err: attention.ErrArgument}
	}
	return err
}
