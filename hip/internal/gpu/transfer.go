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
	// mostWriters is how many goroutines fill stages for one Write: one core copies slower
	// than the GPU does.
	mostWriters = 12

	// copyShare is what makes another goroutine worth its start.
	copyShare = 256 << 10

	readStage  = 4 << 20
	readStages = 3
)

// target begins a write of n bytes: it is enter, and finds the memory.
func (g *device) target(op string, dst hip.Ptr, n int64) (t thread, r *memory.Region, err error) {
	if t, err = g.enter(op); err != nil || n == 0 {
		return t, nil, err
	}
	if r, err = g.memory.Lookup(op, uint64(dst), n, true); err == nil && r.Mem != nil {
		err = g.waitForAll(op)
	}
	if err != nil {
		g.leave(t)
	}
	return t, r, err
}

func (g *device) Write(dst hip.Ptr, src []byte) error {
	n := int64(len(src))
	t, r, err := g.target("write", dst, n)
	if err != nil {
		return err
	}
	defer g.leave(t)
	switch {
	case n == 0:
		return nil
	case r.Mem != nil:
		copyAcross(r.At(uint64(dst), n), src)
		return nil
	case n <= smallWrite:
		return g.uploads.writeSmall(g, "write", dst, n, func(part []byte) error {
			copy(part, src)
			return nil
		})
	}
	return g.writeAcross(dst, src)
}

// writeAcross writes with several goroutines, which take part after part. The caller's
// begins at once; the others take what is left once they have woken up.
func (g *device) writeAcross(dst hip.Ptr, src []byte) error {
	writers := min(mostWriters, runtime.GOMAXPROCS(0))
	size := min(uploadStage, max(copyShare, (len(src)+writers-1)/writers))
	size = (size + memory.Align - 1) &^ (memory.Align - 1)
	writers = min(writers, (len(src)+size-1)/size)
	var next atomic.Int64
	work := func() error {
		for {
			first := int(next.Add(int64(size))) - size
			if first >= len(src) {
				return nil
			}
			from := src[first:min(len(src), first+size)]
			err := g.uploads.write(g, "write", dst.Add(int64(first)), int64(len(from)), func(part []byte) error {
				copy(part, from)
				return nil
			})
			if err != nil {
				next.Store(int64(len(src))) // the others need not go on
				return err
			}
		}
	}
	errs := make([]error, writers)
	var group sync.WaitGroup
	for i := 1; i < writers; i++ {
		group.Go(func() {
			t, err := g.selectDevice("write")
			if err == nil {
				err = work()
				g.deselect(t)
			}
			errs[i] = err
		})
	}
	errs[0] = work()
	group.Wait()
	return joined(errs...)
}

// Fill gives read whole stages, and shares one for few bytes as Write does.
func (g *device) Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error {
	t, r, err := g.target("fill", dst, n)
	if err != nil {
		return err
	}
	defer g.leave(t)
	switch {
	case n == 0:
		return nil
	case r.Mem != nil:
		return read(r.At(uint64(dst), n), 0)
	case n <= smallWrite:
		return g.uploads.writeSmall(g, "fill", dst, n, func(part []byte) error { return read(part, 0) })
	}
	for off := int64(0); off < n; off += uploadStage {
		err := g.uploads.write(g, "fill", dst.Add(off), min(n-off, uploadStage), func(part []byte) error { return read(part, off) })
		if err != nil {
			return err
		}
	}
	return nil
}

// copyAcross copies with several goroutines where that is worth it. The caller's begins at
// once; the others take what is left once they have woken up.
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

// downloads are the stages that one read after another goes through.
type downloads struct {
	mu     sync.Mutex
	stages [readStages]stage
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
	for copied := 0; copied < len(dst); copied += readStage {
		for ; queued < len(dst) && queued < copied+2*readStage; queued += readStage {
			s := &r.stages[queued/readStage%readStages]
			if err := g.readStage(s, dst[queued:], src.Add(int64(queued))); err != nil {
				return err
			}
		}
		s := &r.stages[copied/readStage%readStages]
		if err := s.reuse(g, "read"); err != nil {
			return err
		}
		copyAcross(dst[copied:min(len(dst), copied+readStage)], s.mem)
	}
	return nil
}

// readStage queues a copy of as much of dst as fits.
func (g *device) readStage(s *stage, dst []byte, src hip.Ptr) error {
	if err := s.open(g, "read", readStage); err != nil {
		return err
	}
	if err := s.reuse(g, "read"); err != nil { // of a read that failed half way
		return err
	}
	err := g.call("read", callDownload, uintptr(unsafe.Pointer(&s.mem[0])), uintptr(src), uintptr(min(len(dst), len(s.mem))), g.stream)
	if err != nil {
		return err
	}
	s.copies = copiesQueued
	return s.mark(g, "read")
}
