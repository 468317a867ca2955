package hip

import (
	"math"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// Buffer is memory of one device that only grows: it has room for the largest call so far.
// The zero Buffer is empty and ready for use. Only one goroutine may use a Buffer at a
// time.
type Buffer struct {
	ptr   Ptr
	bytes int64
}

// Ptr returns the address, 0 if the buffer is empty. It is valid until the buffer grows or
// is freed.
func (b *Buffer) Ptr() Ptr { return b.ptr }

// Grow makes room for n values of size bytes each. It does nothing if there is room
// already. Otherwise it allocates new, zeroed memory of exactly that size, and what the
// buffer held is lost.
//
// Grow frees the old memory first, so that a device never holds both. It does not wait for
// the work queued on it: [Device.Free] keeps the order of the queue. If Alloc fails, the
// error wraps [ErrOutOfMemory] and the buffer is empty.
func (b *Buffer) Grow(d Device, n, size int) error {
	if n < 0 || size < 0 || size > 0 && int64(n) > math.MaxInt64/int64(size) {
		return fail.OutOf(math.MaxInt64)
	}
	bytes := int64(n) * int64(size)
	if bytes <= b.bytes {
		return nil
	}
	if err := b.Free(d); err != nil {
		return err
	}
	p, err := d.Alloc(bytes)
	if err != nil {
		return err
	}
	*b = Buffer{p, bytes}
	return nil
}

// Free returns the memory to d, after the work queued on it. The buffer is then empty, and
// freeing it again does nothing.
func (b *Buffer) Free(d Device) error {
	if b.ptr == 0 {
		return nil
	}
	if err := d.Free(b.ptr); err != nil {
		return err
	}
	*b = Buffer{}
	return nil
}
