package gpu

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// A kernel that starts early does what it can before its input is there, such as fetching
// weights, while the last blocks of the launch before it run:
//
//	launch        ├──── blocks ────┬─ last blocks ─┤
//	next launch                    ├─ weights, waits ─┼──── blocks ────┤
//	                                                  awaitInput returns
//
// NVIDIA calls it a programmatic dependent launch. A recorded graph keeps it.

// earlyVersion is the oldest CUDA driver that records such launches in graphs, and
// earlyTarget the oldest architecture whose code waits: see awaitInput in the prelude.
const (
	earlyVersion = 12_030
	earlyTarget  = 90
)

// canStartEarly reports whether the driver and the code of kernels can do it.
func (d *driver) canStartEarly(c *compiler) bool {
	if d.function[callLaunchEarly] == 0 || d.version < earlyVersion {
		return false
	}
	return c.capability() >= earlyTarget
}

// earlyLaunch is the CUlaunchConfig of a launch and its one CUlaunchAttribute.
type earlyLaunch struct {
	config struct {
		grid, block [3]uint32
		shared      uint32
		_           uint32
		stream      uintptr
		attributes  *launchAttribute
		count       uint32
		_           uint32
	}
	attribute launchAttribute
}

type launchAttribute struct {
	id    uint32
	_     uint32
	value [16]uint32
}

const programmaticStreamSerialization = 6

// launchEarly queues a kernel that may start before the launch before it has ended.
func (g *device) launchEarly(f *function, grid hip.Grid, stream uintptr, frame *frame) error {
	c := &frame.early.config
	c.grid, c.block = [3]uint32{uint32(grid.Blocks), 1, 1}, [3]uint32{uint32(grid.Threads), 1, 1}
	c.shared, c.stream, c.count = uint32(f.shared), stream, 1
	frame.early.attribute.id, frame.early.attribute.value[0] = programmaticStreamSerialization, 1
	return g.driver.call("launch", callLaunchEarly, uintptr(unsafe.Pointer(c)), f.handle, uintptr(unsafe.Pointer(&frame.params)), 0)
}
