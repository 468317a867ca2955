package hip

import (
	"sync"
	"sync/atomic"
	"time"
)

// Share brings inputs of a launch into another form once for all its workers, which do it
// together. begin is called once a launch. It returns v, with scratch memory of its Blocks
// that v needs, and the number of parts that v is made in. prepare makes one of them, in the
// worker that calls it. Share returns v when all are made. A kernel calls Share at most once.
func Share[T any](b *Blocks, begin func(b *Blocks) (v T, parts int), prepare func(v T, part int)) T {
	s := b.shared
	s.once.Do(func() { s.begin(b, func(own *Blocks) (any, int) { return begin(own) }) })
	v, _ := s.value.(T) // zero if begin failed
	for s.failure.Load() == nil {
		part := s.next.Add(1) - 1
		if part >= s.parts {
			break
		}
		s.make(func() { prepare(v, int(part)) })
	}
	s.wait()
	return v
}

// shared is what the workers of a launch have in common, see [Share].
type shared struct {
	pool *sync.Pool // of *scratch, or nil
	spin time.Duration

	once    sync.Once
	scratch *scratch // or nil
	value   any
	parts   int64
	next    atomic.Int64        // first part that nobody took
	left    atomic.Int64        // parts that are not made
	failure atomic.Pointer[any] // what a part panicked with
	ended   chan struct{}       // closed when all are made, or one failed
}

func (s *shared) begin(b *Blocks, begin func(*Blocks) (any, int)) {
	s.ended = make(chan struct{})
	defer s.failing()
	if s.pool != nil {
		s.scratch, _ = s.pool.Get().(*scratch)
	}
	if s.scratch == nil {
		s.scratch = new(scratch)
	}
	s.scratch.begin()
	own := *b
	own.scratch = s.scratch
	v, parts := begin(&own)
	s.value, s.parts = v, int64(parts)
	s.left.Store(s.parts)
}

// make makes a part.
func (s *shared) make(part func()) {
	defer s.failing()
	part()
	if s.left.Add(-1) == 0 {
		close(s.ended)
	}
}

// failing notes a panic, which goes on, so that nobody waits for what is never made.
func (s *shared) failing() {
	if e := recover(); e != nil {
		if s.failure.CompareAndSwap(nil, &e) {
			close(s.ended)
		}
		panic(e)
	}
}

// wait returns when all parts are made. If one failed it panics as that did.
func (s *shared) wait() {
	if !spin(s.spin, func() bool { return s.left.Load() == 0 || s.failure.Load() != nil }) {
		<-s.ended
	}
	if e := s.failure.Load(); e != nil {
		panic(*e)
	}
}

// end is called after a launch.
func (s *shared) end() {
	if s.pool != nil && s.scratch != nil {
		s.pool.Put(s.scratch)
	}
}
