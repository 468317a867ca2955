package hip

import (
	"errors"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// What only tests name.
type (
	Sharer   = sharer
	Filler   = filler
	Adopter  = adopter
	Importer = importer
)

// CheckRange asks the device's own CheckRange.
func CheckRange(d Device, p Ptr, n int64, write bool) error {
	r, ok := As[rangeChecker](d)
	if !ok {
		return errors.ErrUnsupported
	}
	return r.CheckRange(p, n, write)
}

// ErrMismatch is what [Check] finds.
var ErrMismatch error = fail.Mismatch

// NewHostAt returns a host that is bounded to a level of vector instructions.
func NewHostAt(threads int, level SIMD) Device { return registry.Host(threads, int(level), 0).(Device) }

// Bytes returns how much there is room for.
func (b *Buffer) Bytes() int64 { return b.bytes }

// Graphs returns the number of graphs that are kept.
func (r *Replayer) Graphs() int {
	n := 0
	for _, s := range r.known {
		if s.launch != nil {
			n++
		}
	}
	return n
}

// Records reports whether the Replayer makes graphs.
func (r *Replayer) Records() bool { return r.capturer != nil }
