package gpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

const (
	uploadStage = 16 << 20 // bytes of one stage: enough for many cores to fill
	readStage   = 4 << 20
	numStages   = 3

	// writePart is how much Write copies at a time, so that the GPU has something to do
	// meanwhile. Fill gives its reader whole stages.
	writePart = 4 << 20

	// smallestPart is what a stage must have left for a larger write to begin in it.
	smallestPart = 64 << 10
	// copyShare is what a goroutine copies before it looks for more.
	copyShare = 256 << 10
)

// staging is pinned memory that the GPU copies from or to by itself. Writes fill one
// stage after the other, small ones many to a stage; a stage is used again when the
// event after its last copy has passed:
//
//	stage 0   | copied by the GPU          |
//	stage 1   | queued   | filled by Write →
//	stage 2   | free                       |
type staging struct {
	mu     sync.Mutex
	size   int
	stages [numStages]stage
	at     int // the stage that is being filled
}

type stage struct {
	mem    []byte // the driver's
	event  uintptr
	used   int
	queued bool // the event was recorded and not waited for

	kernels int64 // ahead of the event
}

func (s *stage) open(g *device, op string, size int) error {
	if s.mem == nil {
		var p unsafe.Pointer
		if err := g.call(op, callAllocPinned, uintptr(unsafe.Pointer(&p)), uintptr(size), 0); err != nil {
			return err
		}
		s.mem = unsafe.Slice((*byte)(p), size)
	}
	if s.event == 0 {
		const withoutTiming = 2
		return g.call(op, callEventCreate, uintptr(unsafe.Pointer(&s.event)), withoutTiming)
	}
	return nil
}

// retire marks the end of what is queued with the stage.
func (s *stage) retire(g *device, op string) error {
	s.kernels = g.launched.count()
	err := g.call(op, callEventRecord, s.event, g.stream)
	s.queued = err == nil
	return err
}

// reuse waits for what was queued with the stage.
func (s *stage) reuse(g *device, op string) error {
	if s.queued {
		if err := g.wait(op, callEventSync, s.event, s.kernels); err != nil {
			return err
		}
	}
	s.queued, s.used = false, 0
	return nil
}

// space returns the part of a stage for the first of n bytes, and advances.
func (s *staging) space(g *device, op string, n int64) ([]byte, error) {
	current := &s.stages[s.at]
	if left := s.size - current.used; int64(left) < min(n, smallestPart) {
		if err := current.retire(g, op); err != nil {
			return nil, err
		}
		s.at = (s.at + 1) % numStages
		current = &s.stages[s.at]
		if err := current.reuse(g, op); err != nil {
			return nil, err
		}
	}
	if err := current.open(g, op, s.size); err != nil {
		return nil, err
	}
	first := current.used
	end := first + int(min(n, int64(s.size-first)))
	current.used = (end + memory.Align - 1) &^ (memory.Align - 1)
	return current.mem[first:end:end], nil
}

func (s *staging) release(g *device) error {
	var first error
	for i := range s.stages {
		if event := s.stages[i].event; event != 0 {
			if err := g.call("close", callEventDestroy, event); first == nil {
				first = err
			}
		}
		if mem := s.stages[i].mem; mem != nil {
			if err := g.call("close", callFreePinned, uintptr(unsafe.Pointer(&mem[0]))); first == nil {
				first = err
			}
		}
		s.stages[i] = stage{}
	}
	return first
}

func (g *device) Write(dst hip.Ptr, src []byte) error {
	return g.fill("write", dst, int64(len(src)), writePart, func(part []byte, off int64) error {
		copyAcross(part, src[off:])
		return nil
	})
}

func (g *device) Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error {
	return g.fill("fill", dst, n, uploadStage, read)
}

func (g *device) fill(op string, dst hip.Ptr, n, largest int64, read func(part []byte, off int64) error) error {
	t, err := g.enter(op)
	if err != nil {
		return err
	}
	defer g.leave(t)
	if n == 0 {
		return nil
	}
	r, err := g.memory.Lookup(op, uint64(dst), n, true)
	if err != nil {
		return err
	}
	if r.Mem != nil {
		if err := g.waitForAll(op); err != nil {
			return err
		}
		return read(r.At(uint64(dst), n), 0)
	}
	g.uploads.mu.Lock()
	defer g.uploads.mu.Unlock()
	for off := int64(0); off < n; {
		part, err := g.uploads.space(g, op, min(n-off, largest))
		if err != nil {
			return err
		}
		if err := read(part, off); err != nil {
			return err
		}
		err = g.call(op, callUpload, uintptr(dst.Add(off)), uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), g.stream)
		if err != nil {
			return err
		}
		off += int64(len(part))
	}
	return nil
}

// copyAcross copies with several goroutines where that is worth it: one core reads
// slower than the GPU does, and page faults of a mapped file wait for each other. The
// caller's goroutine begins at once; the others take what is left once they have woken up.
func copyAcross(dst, src []byte) {
	shares := len(dst) / copyShare
	if shares < 2 {
		copy(dst, src)
		return
	}
	var next atomic.Int64
	work := func() {
		for i := int(next.Add(1)) - 1; i < shares; i = int(next.Add(1)) - 1 {
			first, end := len(dst)*i/shares, len(dst)*(i+1)/shares
			copy(dst[first:end], src[first:end])
		}
	}
	var group sync.WaitGroup
	for range min(shares, runtime.GOMAXPROCS(0), 8) - 1 {
		group.Go(work)
	}
	work()
	group.Wait()
}

// Read copies a stage out while the GPU fills the next.
func (g *device) Read(dst []byte, src hip.Ptr) error {
	t, err := g.enter("read")
	if err != nil {
		return err
	}
	defer g.leave(t)
	if len(dst) == 0 {
		return nil
	}
	from, err := g.memory.Lookup("read", uint64(src), int64(len(dst)), false)
	if err != nil {
		return err
	}
	if from.Mem != nil {
		if err := g.waitForAll("read"); err != nil {
			return err
		}
		copyAcross(dst, from.At(uint64(src), int64(len(dst))))
		return nil
	}
	r := &g.reads
	r.mu.Lock()
	defer r.mu.Unlock()
	queued := 0
	for copied := 0; copied < len(dst); copied += r.size {
		for ; queued < len(dst) && queued < copied+2*r.size; queued += r.size {
			s := &r.stages[queued/r.size%numStages]
			if err := g.readStage(s, dst[queued:], src.Add(int64(queued))); err != nil {
				return err
			}
		}
		s := &r.stages[copied/r.size%numStages]
		if err := s.reuse(g, "read"); err != nil {
			return err
		}
		copyAcross(dst[copied:min(len(dst), copied+r.size)], s.mem)
	}
	return nil
}

// readStage queues a copy of as much of dst as fits.
func (g *device) readStage(s *stage, dst []byte, src hip.Ptr) error {
	if err := s.open(g, "read", g.reads.size); err != nil {
		return err
	}
	if err := s.reuse(g, "read"); err != nil { // of a read that failed half way
		return err
	}
	err := g.call("read", callDownload, uintptr(unsafe.Pointer(&s.mem[0])), uintptr(src), uintptr(min(len(dst), len(s.mem))), g.stream)
	if err != nil {
		return err
	}
	return s.retire(g, "read")
}
