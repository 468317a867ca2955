package attention

import "errors"

// A refused argument is a [hip.InputError], which wraps one of these errors if the rule has
// a name.
var (
	// ErrPosition is a position that the rotary embedding does not cover.
	ErrPosition = errors.New("position out of range")
	// ErrCacheFull is a cache with too few free pages. The text says how many are needed
	// and how many are free.
	ErrCacheFull = errors.New("cache is full")
	// ErrClosed is a use of a cache, sequence or transaction after its end.
	ErrClosed = errors.New("closed")
)

// errInUse is a use of a sequence during another use of it.
var errInUse = errors.New("in use")
