package attention

import (
	"errors"
	"fmt"
)

var (
	// ErrArgument is an argument that is refused before anything is launched.
	ErrArgument = errors.New("bad argument")
	// ErrGeometry is a [Geometry] that no attention has.
	ErrGeometry = errors.New("bad attention geometry")
	// ErrPosition is a position outside of what the rotary embedding covers.
	ErrPosition = errors.New("position out of range")
	// ErrCacheFull is a cache with too few free pages.
	ErrCacheFull = errors.New("cache is full")
	// ErrRange is a range of positions that a sequence does not have.
	ErrRange = errors.New("range outside of the sequence")
	// ErrClosed is a use of a cache, sequence or transaction after its end.
	ErrClosed = errors.New("closed")
	// ErrInUse is a use of a sequence while another goes on.
	ErrInUse = errors.New("in use")
	// ErrClosedCache is ErrClosed.
	ErrClosedCache = ErrClosed
	// ErrClosedSequence is ErrClosed.
	ErrClosedSequence = ErrClosed
)

// ArgumentError names the argument of a call that was refused. It wraps
// [ErrArgument].
type ArgumentError struct {
	Op       string // "insert", "scores", "batch", ...
	Argument string
	Got      any
	Want     string
}

func (e *ArgumentError) Error() string {
	return fmt.Sprintf("%s: %s is %v, want %s", e.Op, e.Argument, e.Got, e.Want)
}

func (e *ArgumentError) Unwrap() error { return ErrArgument }

// GeometryError names the field of a [Geometry] that is wrong. It wraps
// [ErrGeometry].
type GeometryError struct {
	Field string
	Got   any
	Want  string
}

func (e *GeometryError) Error() string {
	return fmt.Sprintf("%v: %s is %v, want %s", ErrGeometry, e.Field, e.Got, e.Want)
}

func (e *GeometryError) Unwrap() error { return ErrGeometry }

// PositionError is a row at a position that has no rotation. It wraps
// [ErrPosition].
type PositionError struct {
	Position int
	Limit    int // positions covered: 0 … Limit−1
}

func (e *PositionError) Error() string {
	return fmt.Sprintf("%v: position %d, want 0 to %d", ErrPosition, e.Position, e.Limit-1)
}

func (e *PositionError) Unwrap() error { return ErrPosition }

// CacheFullError says how many pages were missing. It wraps [ErrCacheFull].
type CacheFullError struct {
	Need int // pages that the call had to take
	Free int // pages that were free
}

func (e *CacheFullError) Error() string {
	return fmt.Sprintf("%v: %d pages needed, %d free", ErrCacheFull, e.Need, e.Free)
}

func (e *CacheFullError) Unwrap() error { return ErrCacheFull }

// RangeError is a range From … To−1 that is empty the wrong way round, negative,
// or not within 0 … Limit−1. It wraps [ErrRange].
type RangeError struct {
	Op              string // "reserve", "truncate", ...
	From, To, Limit int
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("%s: %v: positions [%d, %d), want a range within [0, %d)", e.Op, ErrRange, e.From, e.To, e.Limit)
}

func (e *RangeError) Unwrap() error { return ErrRange }
