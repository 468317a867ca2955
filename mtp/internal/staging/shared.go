package staging

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// sharer is a device whose kernels reach memory of the host, at an address of its own.
type sharer interface {
	AllocShared(n int64) (hip.Ptr, []byte, error)
}

// shared is memory that host and kernels reach, which only grows.
type shared struct {
	ptr    hip.Ptr // 0: none
	values []int32
}

// grow makes room for n words. What was there is lost.
func (m *shared) grow(d hip.Device, s sharer, n int) error {
	if n <= len(m.values) {
		return nil
	}
	if err := m.free(d); err != nil {
		return err
	}
	p, mem, err := s.AllocShared(4 * int64(n))
	if err != nil {
		return err
	}
	*m = shared{p, unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(mem))), n)}
	return nil
}

// free keeps the address if the device keeps the memory, so that it can be freed later.
func (m *shared) free(d hip.Device) error {
	if err := d.Free(m.ptr); err != nil {
		return err
	}
	*m = shared{}
	return nil
}

// Bits returns the same memory as bits.
func Bits(values []float32) []int32 {
	return unsafe.Slice((*int32)(unsafe.Pointer(unsafe.SliceData(values))), len(values))
}

// Floats returns the same memory as values.
func Floats(bits []int32) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(bits))), len(bits))
}

// Bytes returns the same memory as bytes.
func Bytes[T uint16 | uint32 | float32](values []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*int(unsafe.Sizeof(*new(T))))
}
