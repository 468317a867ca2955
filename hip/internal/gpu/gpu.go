package gpu

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

// device is a GPU of a driver. What it has allocated is in its table of memory, so that
// bounds are checked before the driver is asked: an illegal address can end the process.
//
// Locks, in the order in which they are taken: using, then a module's, that of small writes
// or that of reads, then mu, then launched's. Every call holds using for reading for as long
// as it lasts, so Close waits for the calls under way and releases nothing that one of them
// uses.
type device struct {
	driver   *driver
	about    GPU
	info     hip.Info // every launch asks for it
	handle   int32
	context  uintptr // CUDA
	stream   uintptr
	lent     bool // the stream is the caller's
	pools    bool // memory is allocated in the order of the stream
	early    bool // kernels may start early
	blocking bool

	memory   *memory.Table
	kernels  kernelTable
	compiler *compiler
	frames   frames
	uploads  uploads
	reads    downloads

	using  sync.RWMutex // held for reading by every call, for writing by Close
	closed bool

	launched launched
	fault    atomic.Pointer[error] // the first one

	mu        sync.Mutex
	graphs    map[*graph]struct{}    // live
	recorders map[*recorder]struct{} // at work
	marks     map[uintptr]struct{}   // events of Time
	groups    map[*communicator]struct{}
}

// open makes a device of d's GPU n. After a failure nothing is left over.
func open(d *driver, n int, opts *hip.OpenOptions) (_ hip.Device, err error) {
	g := &device{
		driver: d, stream: opts.Stream, lent: opts.Stream != 0, blocking: opts.Blocking,
		memory: memory.New(), graphs: make(map[*graph]struct{}), recorders: make(map[*recorder]struct{}), marks: make(map[uintptr]struct{}), groups: make(map[*communicator]struct{}),
	}
	g.uploads.init()
	if g.about, g.handle, err = d.describe(n); err != nil {
		return nil, err
	}
	if g.compiler, err = openCompiler(d, &g.about, opts); err != nil {
		return nil, err
	}
	g.early = d.canStartEarly(g.compiler)
	g.info = g.about.Info()
	g.info.Warpgroups = g.compiler.target == hopper+"a"
	g.info.MatrixUnits = g.compiler.hasMatrixUnits()
	if err := g.prepare(); err != nil {
		return nil, errors.Join(err, g.release())
	}
	return g, nil
}

func (g *device) prepare() error {
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
func (g *device) hasPools() bool {
	var p hip.Ptr
	if g.driver.call("open", callAllocAsync, uintptr(unsafe.Pointer(&p)), memory.Align, g.stream) != nil {
		return false
	}
	return g.driver.call("open", callFreeAsync, uintptr(p), g.stream) == nil
}

func (g *device) Info() hip.Info { return g.info }

func (g *device) Stream() uintptr { return g.stream }

func (g *device) Sync() error {
	t, err := g.enter("sync")
	if err != nil {
		return err
	}
	defer g.leave(t)
	return g.waitForAll("sync")
}

func (g *device) waitForAll(op string) error {
	return g.wait(op, callStreamSync, g.stream, g.launched.count())
}

// wait waits for the stream, or for an event after its first n kernels.
func (g *device) wait(op string, c call, of uintptr, n int64) error {
	err := g.call(op, c, of)
	if err == nil {
		g.launched.ended(n)
	}
	return err
}

func (g *device) Close() error {
	g.abortGroups()
	g.using.Lock()
	defer g.using.Unlock()
	if g.closed {
		return fail.Closed
	}
	g.closed = true
	return g.release()
}

// release gives everything back. After a fault the driver may refuse calls for what is gone
// anyway, so release reports the fault alone, once.
func (g *device) release() error {
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
	g.memory.Close()
	g.frames.release()
	switch fault := g.fault.Load(); {
	case known:
		return nil
	case fault != nil:
		return *fault
	}
	return errors.Join(errs...)
}

func (g *device) releaseAll(keep func(error)) {
	for r := range g.recorders {
		keep(r.abandon())
	}
	for made := range g.graphs {
		keep(made.destroy())
	}
	for c := range g.groups { // aborted, by Close
		keep(c.wait())
	}
	for event := range g.marks {
		keep(g.call("close", callEventDestroy, event))
	}
	for _, r := range g.memory.Regions() {
		if !r.Adopted {
			keep(g.deallocate(&r))
		}
	}
	keep(g.call("close", callStreamSync, g.stream))
	g.uploads.release(g, keep)
	for i := range g.reads.stages {
		g.reads.stages[i].release(g, keep)
	}
	keep(g.kernels.release(g))
	if !g.lent {
		keep(g.call("close", callStreamDestroy, g.stream))
	}
}
