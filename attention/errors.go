package attention

import "errors"

// Arguments that are refused are a [hip.InputError], which wraps one of these where a rule
// has a name.
var (
	// ErrPosition is a position outside of what the rotary embedding covers.
	ErrPosition = errors.New("position out of range")
	// ErrCacheFull is a cache with too few free pages: the text says how many are needed,
	// and how many are free.
	ErrCacheFull = errors.New("cache is full")
	// ErrClosed is a use of a cache, sequence or transaction after its end.
	ErrClosed = errors.New("closed")
	// ErrInUse is a use of a sequence while another goes on.
	ErrInUse = errors.New("in use")
)
