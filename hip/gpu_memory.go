package hip

import (
	"errors"
	"runtime"
	"unsafe"
)

func (g *gpu) InUse() (bytes int64, live int) { return g.memory.inUse() }

func (g *gpu) Alloc(n int64) (Ptr, error) {
	if n < 0 || n > maxAlloc {
		return 0, &MemoryError{Bytes: n}
	}
	if err := g.enter("alloc"); err != nil {
		return 0, err
	}
	defer g.leave()
	if n == 0 {
		return 0, nil
	}
	p, err := g.allocate(n)
	if err != nil {
		return 0, err
	}
	err = g.driver.call("alloc", callFill, uintptr(p), 0, uintptr(n), g.stream)
	if err == nil {
		_, err = g.memory.insert(region{base: p, size: n, writable: true})
	}
	if err != nil {
		return 0, errors.Join(err, g.deallocate(p))
	}
	return p, nil
}

func (g *gpu) allocate(n int64) (p Ptr, err error) {
	if g.pools {
		err = g.driver.call("alloc", callAllocAsync, uintptr(unsafe.Pointer(&p)), uintptr(n), g.stream)
	} else {
		err = g.driver.call("alloc", callAlloc, uintptr(unsafe.Pointer(&p)), uintptr(n))
	}
	const outOfMemory = 2
	if e, ok := errors.AsType[*DriverError](err); ok && e.Code == outOfMemory {
		err = &MemoryError{Bytes: n}
	}
	return p, err
}

func (g *gpu) deallocate(p Ptr) error {
	if g.pools {
		return g.driver.call("free", callFreeAsync, uintptr(p), g.stream)
	}
	return g.driver.call("free", callFree, uintptr(p))
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
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	selected := g.selectDevice("free")
	faulty := g.fault.Load() != nil
	if selected != nil && !faulty {
		return selected
	}
	r, err := g.memory.remove(p)
	if err != nil || r.adopted {
		return err
	}
	if err = g.deallocate(p); faulty {
		return nil
	}
	return err
}

func (g *gpu) Import(p Ptr, n int64) error {
	if p == 0 || n <= 0 {
		return &AccessError{Op: "import", Ptr: p, Len: n}
	}
	if err := g.enter("import"); err != nil {
		return err
	}
	defer g.leave()
	_, err := g.memory.insert(region{base: p, size: n, writable: true, adopted: true})
	return err
}

func (g *gpu) Copy(dst, src Ptr, n int64) error { return g.copyOn(g.stream, dst, src, n) }

func (g *gpu) copyOn(stream uintptr, dst, src Ptr, n int64) error {
	if err := g.enter("copy"); err != nil {
		return err
	}
	defer g.leave()
	if n == 0 {
		return nil
	}
	if err := g.memory.check("read", src, n, false); err != nil {
		return err
	}
	if err := g.memory.check("write", dst, n, true); err != nil {
		return err
	}
	return g.driver.call("copy", callCopy, uintptr(dst), uintptr(src), uintptr(n), stream)
}
