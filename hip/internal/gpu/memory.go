package gpu

import (
	"errors"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

// Three kinds of memory are in a device's table:
//
//	allocated   the GPU's own; given back in the order of the stream
//	shared      the host's, pinned, that kernels reach over the bus; Region.Mem is the
//	            host's side of it. The driver gives it back at once, so what is queued is
//	            waited for before
//	imported    an engine's; never given back, only forgotten
//
// Where the driver has stream-ordered memory (pools), an allocation is made and freed in
// the order of the stream: kernels queued before Free may still use the memory, and the
// memory of the next Alloc may be that of a Free whose turn has not come. Without pools the
// driver's own free waits for all of the GPU's work. Either way Free needs no Sync before.
//
// The table changes at the call, ahead of the stream. So an address is refused from Free
// on, and a region is inserted only when nothing can fail any more.

func (g *device) InUse() (bytes int64, live int) { return g.memory.InUse() }

func (g *device) CheckRange(p hip.Ptr, n int64, write bool) error {
	return g.memory.Check(uint64(p), n, write)
}

func (g *device) Alloc(n int64) (hip.Ptr, error) {
	if n < 0 || n > memory.Most {
		return 0, fail.OutOf(n)
	}
	t, err := g.enter("alloc")
	if err != nil {
		return 0, err
	}
	defer g.leave(t)
	if n == 0 {
		return 0, nil
	}
	p, err := g.allocate(n)
	if err != nil {
		return 0, err
	}
	err = g.call("alloc", callFill, uintptr(p), 0, uintptr(n), g.stream)
	r := memory.Region{Base: uint64(p), Size: n, Writable: true}
	if err == nil {
		err = g.memory.Insert(r)
	}
	if err != nil {
		return 0, joined(err, g.deallocate(&r))
	}
	return p, nil
}

func (g *device) AllocShared(n int64) (hip.Ptr, []byte, error) {
	if n < 1 || n > memory.Most {
		return 0, nil, fail.OutOf(n)
	}
	t, err := g.enter("alloc")
	if err != nil {
		return 0, nil, err
	}
	defer g.leave(t)
	var p unsafe.Pointer
	const mapped = 2 // both platforms
	if err := g.call("alloc", callAllocPinned, uintptr(unsafe.Pointer(&p)), uintptr(n), mapped); err != nil {
		return 0, nil, outOfMemory(err, n)
	}
	r := memory.Region{Size: n, Mem: unsafe.Slice((*byte)(p), n), Writable: true}
	clear(r.Mem)
	err = g.call("alloc", callDevicePointer, uintptr(unsafe.Pointer(&r.Base)), uintptr(p), 0)
	if err == nil {
		err = g.memory.Insert(r)
	}
	if err != nil {
		return 0, nil, joined(err, g.deallocate(&r))
	}
	return hip.Ptr(r.Base), r.Mem, nil
}

func (g *device) allocate(n int64) (p hip.Ptr, err error) {
	if g.pools {
		err = g.call("alloc", callAllocAsync, uintptr(unsafe.Pointer(&p)), uintptr(n), g.stream)
	} else {
		err = g.call("alloc", callAlloc, uintptr(unsafe.Pointer(&p)), uintptr(n))
	}
	return p, outOfMemory(err, n)
}

// outOfMemory makes [hip.ErrOutOfMemory] of a driver's error that says so.
func outOfMemory(err error, n int64) error {
	const outOfMemory = 2 // both platforms
	if e, ok := errors.AsType[*DriverError](err); ok && e.Code == outOfMemory {
		return fail.OutOf(n)
	}
	return err
}

func (g *device) deallocate(r *memory.Region) error {
	switch {
	case r.Mem != nil:
		waited := g.waitForAll("free")
		if waited != nil && g.fault.Load() == nil {
			return waited // kernels may use it
		}
		return joined(waited, g.call("free", callFreePinned, uintptr(unsafe.Pointer(&r.Mem[0]))))
	case g.pools:
		return g.call("free", callFreeAsync, uintptr(r.Base), g.stream)
	}
	return g.call("free", callFree, uintptr(r.Base))
}

// Free works after a fault too, when the memory may be gone with the context: owners clean
// up then, and have been given the fault already.
func (g *device) Free(p hip.Ptr) error {
	g.using.RLock()
	defer g.using.RUnlock()
	if g.closed {
		return fail.Closed
	}
	if p == 0 {
		return nil
	}
	faulty := g.fault.Load() != nil
	switch t, err := g.selectDevice("free"); {
	case err == nil:
		defer g.deselect(t)
	case !faulty:
		return err
	}
	r, err := g.memory.Remove(uint64(p))
	if err != nil || r.Adopted {
		return err
	}
	if err = g.deallocate(&r); faulty {
		return nil
	}
	if err != nil && g.fault.Load() == nil { // it is still there
		err = joined(err, g.memory.Insert(r))
	}
	return err
}

func (g *device) Import(p hip.Ptr, n int64) error {
	if p == 0 || n <= 0 {
		return fail.Outside("import", uint64(p), n)
	}
	t, err := g.enter("import")
	if err != nil {
		return err
	}
	defer g.leave(t)
	return g.memory.Insert(memory.Region{Base: uint64(p), Size: n, Writable: true, Adopted: true})
}

func (g *device) Copy(dst, src hip.Ptr, n int64) error { return g.copyOn(g.stream, dst, src, n) }

// copyOn queues a copy on a stream. Shared memory goes by its host side, as a transfer: the
// driver's copy between addresses of the device is for the device's own.
func (g *device) copyOn(stream uintptr, dst, src hip.Ptr, n int64) error {
	t, err := g.enter("copy")
	if err != nil {
		return err
	}
	defer g.leave(t)
	if n == 0 {
		return nil
	}
	from, to, err := g.copied(dst, src, n)
	if err != nil {
		return err
	}
	switch {
	case from.Mem != nil:
		return g.call("copy", callUpload, uintptr(dst), uintptr(unsafe.Pointer(&from.At(uint64(src), n)[0])), uintptr(n), stream)
	case to.Mem != nil:
		return g.call("copy", callDownload, uintptr(unsafe.Pointer(&to.At(uint64(dst), n)[0])), uintptr(src), uintptr(n), stream)
	}
	return g.call("copy", callCopy, uintptr(dst), uintptr(src), uintptr(n), stream)
}

// copied returns the regions of a copy.
func (g *device) copied(dst, src hip.Ptr, n int64) (from, to *memory.Region, err error) {
	if from, err = g.memory.Lookup("read", uint64(src), n, false); err != nil {
		return nil, nil, err
	}
	if to, err = g.memory.Lookup("write", uint64(dst), n, true); err != nil {
		return nil, nil, err
	}
	if from.Mem != nil && to.Mem != nil {
		return nil, nil, fail.Outside("copy of shared memory to shared", uint64(dst), n)
	}
	return from, to, nil
}
