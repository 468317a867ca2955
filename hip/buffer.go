package hip

import (
	"math"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// Buffer is memory of one device that only grows: room for the largest call so far, kept
// for the calls that follow. The zero Buffer is empty and ready for use. One goroutine
// uses a Buffer at a time.
type Buffer struct {
	ptr   Ptr
	bytes int64
}

// Ptr returns the address, 0 where the buffer is empty. It is valid until the buffer
// grows or is freed.
func (b *Buffer) Ptr() Ptr { return b.ptr }

// Grow makes room for n values of size bytes each. Where there is room already it does
// nothing. Otherwise the memory is a new one of exactly that size, zeroed, and what the
// buffer held is lost.
//
// The old memory goes first, so that a device never holds both. Nothing waits for the
// work queued on it: [Device.Free] keeps the order of the queue. After an error of Alloc,
// which wraps [ErrOutOfMemory] where memory is short, the buffer is empty.
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

// Free gives the memory back, after the work queued on it. The buffer is then empty, and
// freeing it again does nothing.
func (b *Buffer) Free(d Device) error {
	if err := d.Free(b.ptr); err != nil {
		return err
	}
	*b = Buffer{}
	return nil
}
