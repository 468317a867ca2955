package hip

import (
	"errors"
	"unsafe"
)

func (g *gpu) InUse() (bytes int64, live int) { return g.memory.inUse() }

func (g *gpu) Alloc(n int64) (Ptr, error) {
	if n < 0 || n > maxAlloc {
		return 0, &MemoryError{Bytes: n}
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
	r := region{base: p, size: n, writable: true}
	if err == nil {
		_, err = g.memory.insert(r)
	}
	if err != nil {
		return 0, joined(err, g.deallocate(&r))
	}
	return p, nil
}

func (g *gpu) AllocShared(n int64) (Ptr, []byte, error) {
	if n < 1 || n > maxAlloc {
		return 0, nil, &MemoryError{Bytes: n}
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
	r := region{size: n, mem: unsafe.Slice((*byte)(p), n), writable: true}
	clear(r.mem)
	err = g.call("alloc", callDevicePointer, uintptr(unsafe.Pointer(&r.base)), uintptr(p), 0)
	if err == nil {
		_, err = g.memory.insert(r)
	}
	if err != nil {
		return 0, nil, joined(err, g.deallocate(&r))
	}
	return r.base, r.mem, nil
}

func (g *gpu) allocate(n int64) (p Ptr, err error) {
	if g.pools {
		err = g.call("alloc", callAllocAsync, uintptr(unsafe.Pointer(&p)), uintptr(n), g.stream)
	} else {
		err = g.call("alloc", callAlloc, uintptr(unsafe.Pointer(&p)), uintptr(n))
	}
	return p, outOfMemory(err, n)
}

// outOfMemory makes a MemoryError of a driver's error that says so.
func outOfMemory(err error, n int64) error {
	const outOfMemory = 2 // both platforms
	if e, ok := errors.AsType[*DriverError](err); ok && e.Code == outOfMemory {
		return &MemoryError{Bytes: n}
	}
	return err
}

func (g *gpu) deallocate(r *region) error {
	switch {
	case r.mem != nil: // shared: freed at once, so nothing queued may work on it
		return joined(g.waitForAll("free"), g.call("free", callFreePinned, uintptr(unsafe.Pointer(&r.mem[0]))))
	case g.pools:
		return g.call("free", callFreeAsync, uintptr(r.base), g.stream)
	}
	return g.call("free", callFree, uintptr(r.base))
}

// Free works after a fault too, when the memory may be gone with the context.
func (g *gpu) Free(p Ptr) error {
	g.using.RLock()
	defer g.using.RUnlock()
	if g.closed {
		return ErrClosed
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
	r, err := g.memory.remove(p)
	if err != nil || r.adopted {
		return err
	}
	if err = g.deallocate(&r); faulty {
		return nil
	}
	return err
}

func (g *gpu) Import(p Ptr, n int64) error {
	if p == 0 || n <= 0 {
		return &AccessError{Op: "import", Ptr: p, Len: n}
	}
	t, err := g.enter("import")
	if err != nil {
		return err
	}
	defer g.leave(t)
	_, err = g.memory.insert(region{base: p, size: n, writable: true, adopted: true})
	return err
}

func (g *gpu) Copy(dst, src Ptr, n int64) error { return g.copyOn(g.stream, dst, src, n) }

func (g *gpu) copyOn(stream uintptr, dst, src Ptr, n int64) error {
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
	case from.mem != nil:
		return g.call("copy", callUpload, uintptr(dst), uintptr(unsafe.Pointer(&from.at(src, n)[0])), uintptr(n), stream)
	case to.mem != nil:
		return g.call("copy", callDownload, uintptr(unsafe.Pointer(&to.at(dst, n)[0])), uintptr(src), uintptr(n), stream)
	}
	return g.call("copy", callCopy, uintptr(dst), uintptr(src), uintptr(n), stream)
}

// copied returns the regions of a copy.
func (g *gpu) copied(dst, src Ptr, n int64) (from, to *region, err error) {
	if from, err = g.memory.lookup("read", src, n, false); err != nil {
		return nil, nil, err
	}
	if to, err = g.memory.lookup("write", dst, n, true); err != nil {
		return nil, nil, err
	}
	if from.mem != nil && to.mem != nil {
		return nil, nil, &AccessError{Op: "copy of shared memory to shared", Ptr: dst, Len: n}
	}
	return from, to, nil
}

func (g *gpu) checkCopy(dst, src Ptr, n int64) error {
	_, _, err := g.copied(dst, src, n)
	return err
}
