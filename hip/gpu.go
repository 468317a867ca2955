package hip

import (
	"errors"
	"runtime"
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

	launches   atomic.Int64 // since the last sync
	lastLaunch atomic.Pointer[Kernel]
	fault      atomic.Pointer[error] // the first one

	mu        sync.Mutex
	graphs    map[*graph]struct{}    // live
	recorders map[*recorder]struct{} // at work
}

// openGPU makes a device of d. Whatever fails, nothing is left behind.
func openGPU(d *driver, opts *OpenOptions) (_ Device, err error) {
	g := &gpu{
		driver: d, stream: opts.Stream, lent: opts.Stream != 0, blocking: opts.Blocking,
		memory: newMemory(), graphs: make(map[*graph]struct{}), recorders: make(map[*recorder]struct{}),
	}
	g.uploads.size, g.reads.size = uploadStage, readStage
	if g.about, g.handle, err = d.describe(opts.Device); err != nil {
		return nil, err
	}
	if g.compiler, err = openCompiler(d, &g.about, opts); err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
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
	if err := g.selectDevice("open"); err != nil {
		return err
	}
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

// selectDevice makes the device the one that the calling thread's calls are for.
func (g *gpu) selectDevice(op string) error {
	if g.driver.platform == platformCUDA {
		return g.driver.call(op, callSetContext, g.context)
	}
	return g.driver.call(op, callSetDevice, uintptr(g.about.Index))
}

// enter begins a call: the device stays open, and the goroutine on its thread, until
// leave. Goroutines change threads otherwise, and the current device is a thread's.
func (g *gpu) enter(op string) error {
	g.using.RLock()
	err := g.usable()
	if err == nil {
		runtime.LockOSThread()
		if err = g.selectDevice(op); err == nil {
			return nil
		}
		runtime.UnlockOSThread()
	}
	g.using.RUnlock()
	return err
}

func (g *gpu) leave() {
	runtime.UnlockOSThread()
	g.using.RUnlock()
}

func (g *gpu) usable() error {
	if g.closed {
		return ErrClosed
	}
	if fault := g.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

func (g *gpu) Info() Info {
	return Info{Name: g.about.Name, Kind: g.about.Kind, Threads: max(1, g.about.ComputeUnits)}
}

func (g *gpu) Stream() uintptr { return g.stream }

func (g *gpu) Sync() error {
	if err := g.enter("sync"); err != nil {
		return err
	}
	defer g.leave()
	return g.wait("sync", callStreamSync, g.stream)
}

// wait waits for an event or the stream, and keeps a fault that it is told of.
func (g *gpu) wait(op string, c call, of uintptr) error {
	pending := g.launches.Load()
	err := g.driver.call(op, c, of)
	if err == nil {
		g.launches.Add(-pending)
		return nil
	}
	if last := g.lastLaunch.Load(); last != nil && pending == 1 {
		err = &LaunchError{Kernel: last.Name, Err: err}
	} else if last != nil && pending > 1 {
		err = &FaultError{Launches: int(pending), Last: last.Name, Err: err}
	}
	g.fault.CompareAndSwap(nil, &err)
	return *g.fault.Load()
}

func (g *gpu) Close() error {
	g.using.Lock()
	defer g.using.Unlock()
	if g.closed {
		return ErrClosed
	}
	g.closed = true
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return g.release()
}

// release gives everything back. After a fault the driver may refuse calls for what
// is gone anyway: the fault was reported, so these errors are not.
func (g *gpu) release() error {
	var errs []error
	keep := func(err error) { errs = append(errs, err) }
	if g.stream != 0 {
		keep(g.selectDevice("close"))
		keep(g.driver.call("close", callStreamSync, g.stream))
		for r := range g.recorders {
			keep(r.abandon())
		}
		for made := range g.graphs {
			keep(made.destroy())
		}
		for _, r := range *g.memory.regions.Load() {
			if !r.adopted {
				keep(g.deallocate(&r))
			}
		}
		keep(g.driver.call("close", callStreamSync, g.stream))
		keep(g.uploads.release(g))
		keep(g.reads.release(g))
		keep(g.kernels.release(g))
		if !g.lent {
			keep(g.driver.call("close", callStreamDestroy, g.stream))
		}
	}
	if g.context != 0 {
		keep(g.driver.call("close", callReleaseContext, uintptr(g.handle)))
	}
	g.memory.close()
	g.frames.release()
	if g.fault.Load() != nil {
		return nil
	}
	return errors.Join(errs...)
}
