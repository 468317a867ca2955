package gpu_test

import (
	"time"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// What a GPU has beside the interfaces of package hip.
type (
	streamer interface{ Stream() uintptr } // the device that records has it too
	capturer interface {
		Capture(record func(d hip.Device) error) (launch, release func() error, err error)
	}
	timer interface {
		Time(work func() error) (time.Duration, error)
	}
)

// graph is what a GPU recorded.
type graph struct{ Launch, Close func() error }

func capture(d hip.Device, record func(d hip.Device) error) (*graph, error) {
	launch, release, err := d.(capturer).Capture(record)
	return &graph{launch, release}, err
}

// sharer is a device whose kernels reach memory of the host, at an address of its own.
type sharer interface {
	AllocShared(n int64) (hip.Ptr, []byte, error)
}

// filler is a device that takes bytes where the caller reads them to. read gets the parts
// in order, with their offsets.
type filler interface {
	Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error
}

// allocShared returns n values that s and the host share.
func allocShared(s sharer, n int) (hip.Ptr, []float32, error) {
	p, mem, err := s.AllocShared(4 * int64(n))
	if err != nil {
		return 0, nil, err
	}
	return p, unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}
