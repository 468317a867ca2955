package gpu

import (
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

const (
	// uploadStage × uploadStages bytes are pinned for large writes at most: enough for
	// mostWriters goroutines that fill one each and as many that the GPU copies. Copies of
	// fewer bytes leave the bus idle in between.
	uploadStage  = 2 << 20
	uploadStages = 24

	// smallWrite is up to how many bytes writes share a stage, of smallStage bytes.
	smallWrite  = 256 << 10
	smallStage  = 1 << 20
	smallStages = 2
)

// stage is pinned memory that the GPU copies from or to by itself. It becomes pinned at its
// first use; where the driver pins no more, it is ordinary memory, and copies take longer.
type stage struct {
	mem    []byte
	pinned bool // mem is the driver's
	event  uintptr
	used   int

	copies  copies
	kernels int64 // ahead of the event
}

// copies is how to find out that the GPU has done with a stage.
type copies int

const (
	noCopies     copies = iota // it has
	copiesQueued               // the stream ended
	copiesMarked               // the stage's event passed
)

func (s *stage) open(g *device, op string, size int) error {
	if s.mem == nil {
		var p unsafe.Pointer
		err := g.call(op, callAllocPinned, uintptr(unsafe.Pointer(&p)), uintptr(size), 0)
		switch {
		case err == nil:
			s.mem, s.pinned = unsafe.Slice((*byte)(p), size), true
		case faultOf(err) != nil:
			return err
		default:
			s.mem = make([]byte, size)
		}
	}
	if s.event == 0 {
		const withoutTiming = 2
		return g.call(op, callEventCreate, uintptr(unsafe.Pointer(&s.event)), withoutTiming)
	}
	return nil
}

// mark marks the end of what is queued with the stage.
func (s *stage) mark(g *device, op string) error {
	s.kernels = g.launched.count()
	err := g.call(op, callEventRecord, s.event, g.stream)
	if err == nil {
		s.copies = copiesMarked
	}
	return err
}

// reuse waits for what was queued with the stage.
func (s *stage) reuse(g *device, op string) (err error) {
	switch s.copies {
	case copiesMarked:
		err = g.wait(op, callEventSync, s.event, s.kernels)
	case copiesQueued:
		err = g.waitForAll(op)
	}
	if err == nil {
		s.copies, s.used = noCopies, 0
	}
	return err
}

// send queues the copy of a part of the stage.
func (s *stage) send(g *device, op string, dst hip.Ptr, part []byte) error {
	err := g.call(op, callUpload, uintptr(dst), uintptr(unsafe.Pointer(&part[0])), uintptr(len(part)), g.stream)
	if err == nil {
		s.copies = copiesQueued
	}
	return err
}

func (s *stage) release(g *device, keep func(error)) {
	if s.event != 0 {
		keep(g.call("close", callEventDestroy, s.event))
	}
	if s.pinned {
		keep(g.call("close", callFreePinned, uintptr(unsafe.Pointer(&s.mem[0]))))
	}
	*s = stage{}
}

// uploads are the stages that writes go through. A large write takes one after another,
// fills it, queues the copy and gives it back. What was given back first is taken first, once
// its copy is done, so that goroutines fill some while the GPU copies from others:
//
//	stage 0   | copied by the GPU |
//	stage 1   | queued |
//	stage 2   | filled by a goroutine →
//	stage 3   | filled by another →
//	stage 4   | free |
//
// Small writes have stages of their own, and fill one after the other, many to a stage.
type uploads struct {
	large chan *stage // that nobody fills, in the order in which they were given back

	mu    sync.Mutex
	small [smallStages]stage
	at    int // the small stage that is filled
}

func (u *uploads) init() {
	u.large = make(chan *stage, uploadStages)
	for range uploadStages {
		u.large <- new(stage)
	}
}

// write has read fill n bytes, at most a stage, and queues their copy to dst. While all stages
// are being filled it waits for one.
func (u *uploads) write(g *device, op string, dst hip.Ptr, n int64, read func(part []byte) error) error {
	s := <-u.large
	defer func() { u.large <- s }()
	if err := s.reuse(g, op); err != nil {
		return err
	}
	if err := s.open(g, op, uploadStage); err != nil {
		return err
	}
	part := s.mem[:n:n]
	if err := read(part); err != nil {
		return err
	}
	if err := s.send(g, op, dst, part); err != nil {
		return err
	}
	return s.mark(g, op)
}

// writeSmall is write for up to smallWrite bytes. Other small writes wait meanwhile.
func (u *uploads) writeSmall(g *device, op string, dst hip.Ptr, n int64, read func(part []byte) error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := &u.small[u.at]
	if int64(smallStage-s.used) < n {
		if err := s.mark(g, op); err != nil {
			return err
		}
		u.at = (u.at + 1) % smallStages
		s = &u.small[u.at]
		if err := s.reuse(g, op); err != nil {
			return err
		}
	}
	if err := s.open(g, op, smallStage); err != nil {
		return err
	}
	end := s.used + int(n)
	part := s.mem[s.used:end:end]
	if err := read(part); err != nil {
		return err
	}
	if err := s.send(g, op, dst, part); err != nil {
		return err
	}
	s.used = (end + memory.Align - 1) &^ (memory.Align - 1)
	return nil
}

// release is called by Close, when no write is under way.
func (u *uploads) release(g *device, keep func(error)) {
	for i := range u.small {
		u.small[i].release(g, keep)
	}
	for {
		select {
		case s := <-u.large:
			s.release(g, keep)
		default:
			return
		}
	}
}
