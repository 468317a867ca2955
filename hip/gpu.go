package hip

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"
)

// gpu is a device of a driver. What it has allocated is in its table of memory, so
// that bounds are checked before the driver is asked: an illegal address can end the
// process.
type gpu struct {
	driver   *driver
	about    GPU
	handle   int32
	context  uintptr // CUDA
	stream   uintptr
	lent     bool // the stream is the caller's
	pools    bool // memory is allocated in the order of the stream
	blocking bool

	memory   *memory
	kernels  kernelTable
	compiler *compiler
	frames   frames
	uploads  staging
	reads    staging

	using  sync.RWMutex // held for reading by every call, for writing by Close
	closed bool

	launched launched
	fault    atomic.Pointer[error] // the first one

	mu        sync.Mutex
	graphs    map[*graph]struct{}    // live
	recorders map[*recorder]struct{} // at work
	marks     map[uintptr]struct{}   // events of Time
}

// openGPU makes a device of d. Whatever fails, nothing is left behind.
func openGPU(d *driver, opts *OpenOptions) (_ Device, err error) {
	g := &gpu{
		driver: d, stream: opts.Stream, lent: opts.Stream != 0, blocking: opts.Blocking,
		memory: newMemory(), graphs: make(map[*graph]struct{}), recorders: make(map[*recorder]struct{}), marks: make(map[uintptr]struct{}),
	}
	g.uploads.size, g.reads.size = uploadStage, readStage
	if g.about, g.handle, err = d.describe(opts.Device); err != nil {
		return nil, err
	}
	if g.compiler, err = openCompiler(d, &g.about, opts); err != nil {
		return nil, err
	}
	if err := g.prepare(); err != nil {
		return nil, errors.Join(err, g.release())
	}
	return g, nil
}

func (g *gpu) prepare() error {
	if g.driver.platform == platformCUDA {
		if err := g.driver.call("open", callRetainContext, uintptr(unsafe.Pointer(&g.context)), uintptr(g.handle)); err != nil {
			return err
		}
	}
	t, err := g.selectDevice("open")
	if err != nil {
		return err
	}
	defer g.deselect(t)
	if !g.lent {
		const nonBlocking = 1 // does not wait for the legacy stream
		if err := g.driver.call("open", callStreamCreate, uintptr(unsafe.Pointer(&g.stream)), nonBlocking); err != nil {
			return err
		}
	}
	g.pools = g.hasPools()
	return nil
}

// hasPools tries stream-ordered allocation: a driver that has it may still not
// support it for every GPU.
func (g *gpu) hasPools() bool {
	var p Ptr
	if g.driver.call("open", callAllocAsync, uintptr(unsafe.Pointer(&p)), allocAlign, g.stream) != nil {
		return false
	}
	return g.driver.call("open", callFreeAsync, uintptr(p), g.stream) == nil
}

func (g *gpu) Info() Info {
	return Info{Name: g.about.Name, Kind: g.about.Kind, Threads: max(1, g.about.ComputeUnits)}
}

func (g *gpu) Stream() uintptr { return g.stream }

func (g *gpu) Sync() error {
	t, err := g.enter("sync")
	if err != nil {
		return err
	}
	defer g.leave(t)
	return g.waitForAll("sync")
}

func (g *gpu) waitForAll(op string) error {
	return g.wait(op, callStreamSync, g.stream, g.launched.count())
}

// wait waits for the stream, or for an event behind its first n kernels.
func (g *gpu) wait(op string, c call, of uintptr, n int64) error {
	err := g.call(op, c, of)
	if err == nil {
		g.launched.ended(n)
	}
	return err
}

func (g *gpu) Close() error {
	g.using.Lock()
	defer g.using.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.closed = true
	return g.release()
}

// release gives everything back. After a fault the driver may refuse calls for what
// is gone anyway, so a fault alone is reported, and once.
func (g *gpu) release() error {
	known := g.fault.Load() != nil
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	if g.stream != 0 {
		t, err := g.selectDevice("close")
		keep(err)
		keep(g.waitForAll("close"))
		g.releaseAll(keep)
		if err == nil {
			g.deselect(t)
		}
	}
	if g.context != 0 {
		keep(g.driver.call("close", callReleaseContext, uintptr(g.handle)))
	}
	g.memory.close()
	g.frames.release()
	switch fault := g.fault.Load(); {
	case known:
		return nil
	case fault != nil:
		return *fault
	}
	return errors.Join(errs...)
}

func (g *gpu) releaseAll(keep func(error)) {
	for r := range g.recorders {
		keep(r.abandon())
	}
	for made := range g.graphs {
		keep(made.destroy())
	}
	for event := range g.marks {
		keep(g.call("close", callEventDestroy, event))
	}
	for _, r := range *g.memory.regions.Load() {
		if !r.adopted {
			keep(g.deallocate(&r))
		}
	}
	keep(g.call("close", callStreamSync, g.stream))
	keep(g.uploads.release(g))
	keep(g.reads.release(g))
	keep(g.kernels.release(g))
	if !g.lent {
		keep(g.call("close", callStreamDestroy, g.stream))
	}
}
