package hip

import (
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"unsafe"
)

// maxThreads is the most threads that a block may have on every GPU.
const maxThreads = 1024

func (g *gpu) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	if err := g.launchOn(g.stream, &g.launched, k, grid, args); err != nil || !g.blocking {
		return err
	}
	return g.Sync()
}

func (g *gpu) launchOn(stream uintptr, count *launched, k *Kernel, grid Grid, args unsafe.Pointer) error {
	if err := g.checkLaunch(k, grid); err != nil {
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
		return g.driver.call("launch", callLaunch, f.handle, uintptr(grid.Blocks), 1, 1, uintptr(grid.Threads), 1, 1, 0, stream, uintptr(unsafe.Pointer(&frame.params)), 0)
	})
	g.frames.put(frame) // the driver has copied the arguments
	switch {
	case err == nil:
		return nil
	case faultOf(err) != nil: // of a kernel before
		return g.noted(err)
	}
	return &LaunchError{Kernel: k.Name, Err: err}
}

func (g *gpu) checkLaunch(k *Kernel, grid Grid) error {
	if err := checkGrid(k, grid); err != nil {
		return err
	}
	var err error
	switch {
	case k.Source == "":
		err = ErrNoSource
	case grid.Threads < 1 && grid.Blocks > 0 || grid.Threads > maxThreads:
		err = fmt.Errorf("%d threads a block, want 1 to %d", grid.Threads, maxThreads)
	case g.driver.platform == platformHIP && uint64(grid.Blocks)*uint64(grid.Threads) >= 1<<32:
		err = fmt.Errorf("%d blocks of %d threads, want less than 2^32 threads", grid.Blocks, grid.Threads)
	default:
		return nil
	}
	return &LaunchError{Kernel: k.Name, Err: err}
}

// checkPointers finds addresses of no allocation. How far a kernel reads behind an
// address only its twin knows: that is what [Check] is for.
func (g *gpu) checkPointers(k *Kernel, pointers []uintptr, args unsafe.Pointer) error {
	for _, off := range pointers {
		if p := *(*Ptr)(unsafe.Add(args, off)); p != 0 {
			if err := g.memory.check("launch", p, 0, false); err != nil {
				return &LaunchError{Kernel: k.Name, Err: err}
			}
		}
	}
	return nil
}

func (g *gpu) freed() uint64 { return g.memory.removed.Load() }

func (g *gpu) checkAddresses(k *Kernel, args unsafe.Pointer) error {
	if f, ok := g.kernels.functions.Load(k); ok {
		return g.checkPointers(k, f.(*function).pointers, args)
	}
	return g.checkPointers(k, pointersOf(k.Args), args)
}

// pointersOf returns the offsets of the addresses in an argument struct.
func pointersOf(args reflect.Type) []uintptr {
	var offsets []uintptr
	for i := range args.NumField() {
		if f := args.Field(i); f.Type == reflect.TypeFor[Ptr]() {
			offsets = append(offsets, f.Offset)
		}
	}
	return offsets
}

// maxArgs is the bytes of arguments that every GPU takes.
const maxArgs = 4096

// frame is what the driver reads the arguments of one launch from. It is Go memory
// that points into itself, so it is pinned once and used again.
type frame struct {
	params [1]unsafe.Pointer // the kernel's only parameter
	values [maxArgs / 8]uint64
	pin    runtime.Pinner
}

func (f *frame) set(args unsafe.Pointer, size uintptr) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&f.values)), size), unsafe.Slice((*byte)(args), size))
}

// frames keeps frames that no launch uses.
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
	return f
}

func (s *frames) put(f *frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, f) // as many as goroutines launch at a time
}

func (s *frames) release() {
	for _, f := range s.free {
		f.pin.Unpin()
	}
	s.free = nil
}
