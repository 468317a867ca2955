package mtp

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// InputError names an argument or option that is refused before anything runs: see
// [hip.InputError]. Its Sequence is 1 + the index in Batch.Sequences, or in the chains of a
// [Head.VerifySampled]; 0 means the call as a whole.
type InputError = hip.InputError

var (
	// ErrInput is a refused argument. Every [InputError] wraps it.
	ErrInput = hip.ErrInput
	// ErrClosed is a use of a head, cache or sequence after its Close.
	ErrClosed = attention.ErrClosed
)

// errNaN is the error of a Draft or a Verified that met a probability that is not a number.
var errNaN = errors.New("mtp: probability is not a number")

// errInUse is a use of a sequence during another use of it.
var errInUse = errors.New("in use")

// errToken is a token id outside of the vocabulary.
var errToken = errors.New("token id outside of the vocabulary")

// refuse returns the error of an argument of a call.
func refuse(field string, got any, want string, err error) error {
	return refuseRows(-1, field, got, want, err)
}

// refuseRows returns the error of an argument of Sequences[i].
func refuseRows(i int, field string, got any, want string, err error) error {
	return &InputError{Op: "mtp", Sequence: i + 1, Field: field, Got: got, Want: want, Err: err}
}

// refuseChain returns the error of an argument of chains[i] of VerifySampled.
func refuseChain(i int, field string, got any, want string, err error) error {
	return &InputError{Op: "mtp: verify", List: "chains", Sequence: i + 1, Field: field, Got: got, Want: want, Err: err}
}

// refuseFunc returns the error of an argument of the i-th sequence or chain.
type refuseFunc func(i int, field string, got any, want string, err error) error

// closed returns the error of a use after Close.
func closed(what string) error { return fmt.Errorf("mtp: %s is %w", what, ErrClosed) }
