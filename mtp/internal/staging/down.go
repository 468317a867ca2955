package staging

import (
	"errors"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
)

// Down is 32-bit results on their way back to the host: kernels write them at At, Bring
// is the last launch of a call, and Wait returns them. One goroutine uses a Down at a
// time.
type Down struct {
	device hip.Device
	sharer sharer // nil: no memory in common
	n      int    // values that the call gives
	buffer hip.Buffer
	shared shared
}

// NewDown returns a Down without results.
func NewDown(d hip.Device) *Down {
	sharer, _ := hip.As[sharer](d)
	return &Down{device: d, sharer: sharer}
}

// Expect makes room for n values; with 0, none come back.
func (r *Down) Expect(n int) error {
	r.n = n
	if err := r.buffer.Grow(r.device, n, 4); err != nil || r.sharer == nil || n == 0 {
		return err
	}
	return r.shared.grow(r.device, r.sharer, n)
}

// At returns the address of value i.
func (r *Down) At(i int) hip.Ptr { return r.buffer.Ptr().Add(4 * int64(i)) }

// Bring launches the copy of the first n values on d, which stands for the device.
func (r *Down) Bring(d hip.Device, n int) error {
	if r.shared.ptr == 0 {
		return nil
	}
	return kernels.CopyWords(d, r.shared.ptr, r.buffer.Ptr(), n)
}

// Wait waits for all that is queued and returns the first n values, integers or bits of
// float32. They are valid until the next call.
func (r *Down) Wait(n int) ([]int32, error) {
	if r.sharer == nil && n > 0 {
		values := make([]int32, n)
		return values, hip.ReadOf(r.device, values, r.buffer.Ptr())
	}
	return r.shared.values[:n], r.device.Sync()
}

// Free gives the memory back.
func (r *Down) Free() error {
	return errors.Join(r.shared.free(r.device), r.buffer.Free(r.device))
}
