package gpu

import (
	"fmt"
	"math"
	"reflect"
	"runtime"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// maxThreads is the most threads that a block may have on every GPU.
const maxThreads = 1024

func (g *device) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	if err := g.launchOn(g.stream, &g.launched, k, grid, args); err != nil || !g.blocking {
		return err
	}
	return g.Sync()
}

// launchOn queues a kernel on a stream; count counts the kernels of that stream. Nothing
// else checks a launch: the driver does not look at addresses, and a wrong one may end the
// process when the kernel runs.
func (g *device) launchOn(stream uintptr, count *launched, k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	if err := g.checkGrid(k, grid); err != nil {
		return err
	}
	t, err := g.enter("launch")
	if err != nil {
		return err
	}
	defer g.leave(t)
	f, err := g.function(k)
	if err != nil {
		return err
	}
	if err := g.checkPointers(k, f.pointers, args); err != nil {
		return err
	}
	if grid.Blocks == 0 {
		return nil
	}
	frame := g.frames.get()
	frame.set(args, f.size)
	err = count.queue(1, k, func() error {
		if f.early {
			return g.launchEarly(f, grid, stream, frame)
		}
		return g.driver.call("launch", callLaunch, f.handle, uintptr(grid.Blocks), 1, 1, uintptr(grid.Threads), 1, 1, f.shared, stream, uintptr(unsafe.Pointer(&frame.params)), 0)
	})
	g.frames.put(frame) // the driver has copied the arguments
	switch {
	case err == nil:
		return nil
	case faultOf(err) != nil: // of a kernel before
		return g.noted(err)
	}
	return fail.Kernel(k.Name, err)
}

func (g *device) checkGrid(k *hip.Kernel, grid hip.Grid) error {
	var err error
	switch {
	case grid.Blocks < 0 || grid.Blocks > math.MaxInt32:
		err = fmt.Errorf("grid of %d blocks, want 0 to 2^31-1", grid.Blocks)
	case grid.Threads < 1 && grid.Blocks > 0 || grid.Threads > maxThreads:
		err = fmt.Errorf("%d threads a block, want 1 to %d", grid.Threads, maxThreads)
	case g.driver.platform == platformHIP && uint64(grid.Blocks)*uint64(grid.Threads) >= 1<<32:
		err = fmt.Errorf("%d blocks of %d threads, want less than 2^32 threads", grid.Blocks, grid.Threads)
	default:
		return nil
	}
	return fail.Kernel(k.Name, err)
}

// checkPointers finds addresses outside of allocations. Only a kernel's twin knows how far
// the kernel reads from an address; [hip.Check] finds that out.
func (g *device) checkPointers(k *hip.Kernel, pointers []uintptr, args unsafe.Pointer) error {
	for _, off := range pointers {
		if p := *(*hip.Ptr)(unsafe.Add(args, off)); p != 0 {
			if _, err := g.memory.Lookup("launch", uint64(p), 0, false); err != nil {
				return fail.Kernel(k.Name, err)
			}
		}
	}
	return nil
}

// A graph is launched without a look at its addresses, so a [hip.Replayer] asks for one
// with the three calls below, whenever something was freed since the last.

// Freed counts what was freed. While the count stays the same, addresses that were valid
// stay valid.
func (g *device) Freed() uint64 { return g.memory.Removed() }

func (g *device) CheckAddresses(k *hip.Kernel, args unsafe.Pointer) error {
	if f, ok := g.kernels.functions.Load(k); ok {
		return g.checkPointers(k, f.(*function).pointers, args)
	}
	if known := registry.Find(k); known != nil {
		return g.checkPointers(k, pointersOf(known.Args), args)
	}
	return nil
}

func (g *device) CheckCopy(dst, src hip.Ptr, n int64) error {
	_, _, err := g.copied(dst, src, n)
	return err
}

// pointersOf returns the offsets of the addresses in an argument struct.
func pointersOf(args reflect.Type) []uintptr {
	var offsets []uintptr
	for i := range args.NumField() {
		if f := args.Field(i); f.Type == reflect.TypeFor[hip.Ptr]() {
			offsets = append(offsets, f.Offset)
		}
	}
	return offsets
}

// maxArgs is the bytes of arguments that every GPU takes.
const maxArgs = 4096

// frame is what the driver reads the arguments of one launch from: an array of addresses,
// one a parameter, each of the parameter's value. A caller's struct may lie on its
// goroutine's stack, which moves, and an address that only the frame holds would not keep
// it. So the arguments are copied into the frame, which is Go memory that points into
// itself: it is pinned once, and used again by later launches.
//
//	params[0] ──┐
//	values      ◂┘  the argument struct
type frame struct {
	params [1]unsafe.Pointer // the kernel's only parameter
	values [maxArgs / 8]uint64
	early  earlyLaunch
	pin    runtime.Pinner
}

func (f *frame) set(args unsafe.Pointer, size uintptr) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&f.values)), size), unsafe.Slice((*byte)(args), size))
}

// frames keeps frames that no launch uses. The driver has copied the arguments when the
// launch call returns, so a frame is in use for that call alone, and there are as many as
// goroutines launch at a time.
type frames struct {
	mu   sync.Mutex
	free []*frame
}

func (s *frames) get() *frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		f := s.free[n-1]
		s.free = s.free[:n-1]
		return f
	}
	f := new(frame)
	f.pin.Pin(f)
	f.params[0] = unsafe.Pointer(&f.values)
	f.early.config.attributes = &f.early.attribute
	return f
}

func (s *frames) put(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, f)
}

// release is called by Close, when no launch is under way.
func (s *frames) release() {
	for _, f := range s.free {
		f.pin.Unpin()
	}
	s.free = nil
}
