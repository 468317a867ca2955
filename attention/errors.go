package attention

import (
	"errors"
	"fmt"
)

// A refused argument is a [hip.InputError], which wraps one of these errors if the rule has
// a name.
var (
	// ErrPosition is a position that the rotary embedding does not cover.
	ErrPosition = errors.New("position out of range")
	// ErrCacheFull is a cache with too few free pages. The error is a [*CacheFullError].
	ErrCacheFull = errors.New("cache is full")
	// ErrClosed is a use of a cache, sequence or transaction after its end.
	ErrClosed = errors.New("closed")
)

// CacheFullError is a cache with too few free pages for the rows of a call. The call has
// changed nothing, and succeeds once enough pages are free. It wraps [ErrCacheFull], and
// not [hip.ErrInput]: the arguments are right.
type CacheFullError struct {
	Op       string // package and call: "attention: begin"
	Sequence int    // 1 + the index in the call's sequences; 0: the call has only one
	Needed   int    // pages that the sequence lacks
	Free     int    // pages that the sequences before it leave
}

// Error says the call, the sequence, the pages, and what to do.
func (e *CacheFullError) Error() string {
	at := e.Op
	if e.Sequence > 0 {
		at = fmt.Sprintf("%s: Sequences[%d]", at, e.Sequence-1)
	}
	return fmt.Sprintf("%s: %v: %d pages needed, %d free; close or truncate other sequences, or make a larger cache", at, ErrCacheFull, e.Needed, e.Free)
}

// Unwrap makes the error match ErrCacheFull.
func (e *CacheFullError) Unwrap() error { return ErrCacheFull }

// errInUse is a use of a sequence during another use of it.
var errInUse = errors.New("in use")
