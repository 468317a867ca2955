package attention

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/drafthead/drafthead/hip"
)

// Sequence is the cache of one token sequence: its block table, and the positions at which
// each layer was written. A [Transaction] writes it.
//
// Only one goroutine may use a sequence at a time. A transaction uses its sequences until
// it ends; Reserve, Truncate, Fork and Close use theirs while they run. A second use at
// that time is refused. Len and BlockTable may be called at any time.
type Sequence struct {
	cache   *Cache
	use     atomic.Bool
	written []presence // by layer
	closed  bool

	mu     sync.Mutex // held, by the user of the sequence, to change what follows
	length int
	table  []int32
}

// NewSequence returns an empty sequence without pages.
func (c *Cache) NewSequence() *Sequence {
	return &Sequence{cache: c, written: make([]presence, len(c.layers))}
}

// enter begins a use of the sequence unless another goes on; leave ends it.
func (s *Sequence) enter() bool { return s.use.CompareAndSwap(false, true) }

func (s *Sequence) leave() { s.use.Store(false) }

// enterOpen is enter of a sequence that is open, for op.
func (s *Sequence) enterOpen(op string) error {
	if s == nil || s.cache == nil || len(s.cache.layers) == 0 {
		return &hip.InputError{Op: "attention: " + op, Field: "sequence", Got: s.origin(), Want: "one of NewSequence or Fork"}
	}
	if !s.enter() {
		return fmt.Errorf("attention: %s: sequence is %w", op, errInUse)
	}
	if s.closed {
		s.leave()
		return fmt.Errorf("attention: %s: sequence is %w", op, ErrClosed)
	}
	return nil
}

// origin says what a sequence of the wrong cache is.
func (s *Sequence) origin() string {
	switch {
	case s == nil || s.cache == nil:
		return "a zero Sequence"
	case len(s.cache.layers) == 0:
		return "a zero Cache's"
	}
	return "another cache's"
}

// Len returns the number of positions of the sequence: one past the last that was
// committed.
func (s *Sequence) Len() int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.length
}

// BlockTable returns the page of each block of positions, as a copy.
func (s *Sequence) BlockTable() []int32 {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.table)
}

// Reserve takes the pages of the n positions after Len, so that a later transaction does
// not find the cache full. It copies pages that a fork shares. An error is a [CacheFullError];
// a [hip.InputError] for a negative n, for positions beyond Rope.Positions (it wraps
// [ErrPosition]), or for a cache that is used with block tables; [ErrClosed]; or the
// device's error. On any error nothing has changed.
func (s *Sequence) Reserve(n int) (err error) {
	if err := s.enterOpen("reserve"); err != nil {
		return err
	}
	defer s.leave()
	refuse := func(field string, got any, want string, err error) error {
		return &hip.InputError{Op: "attention: reserve", Field: field, Got: got, Want: want, Err: err}
	}
	switch most := s.limit() - s.length; {
	case n < 0:
		return refuse("n", n, "at least 0", nil)
	case n > most:
		return refuse("n", n, fmt.Sprintf("at most %d after %d, of %d positions that there are", most, s.length, s.limit()), ErrPosition)
	case !s.cache.owner.hold(ownerSequences):
		return refuse("cache", "used with BlockTables", "Sequences or BlockTables, not both", nil)
	}
	defer func() { s.cache.owner.release(err == nil) }()
	return s.reserve(s.length, s.length+n)
}

// reserve takes the pages of positions from … to−1, and those before that are missing.
func (s *Sequence) reserve(from, to int) error {
	if from == to {
		return nil
	}
	size, room := s.cache.geometry.BlockSize, room{table: s.table}
	taken, err := s.cache.pages.takeOne("reserve", &room, from/size, blocksFor(to, size))
	if err != nil {
		return err
	}
	if err := s.cache.copyShared(&room, s.length); err != nil {
		s.cache.pages.release(taken)
		return fmt.Errorf("attention: reserve: %w", err)
	}
	s.cache.pages.release(s.put(&room))
	return nil
}

// Truncate drops the positions from n on, 0 ≤ n ≤ Len, in all layers, and gives back the
// pages that are no longer needed, reserved ones too. Any other n is a [hip.InputError]; after
// Close the error is [ErrClosed].
func (s *Sequence) Truncate(n int) error {
	if err := s.enterOpen("truncate"); err != nil {
		return err
	}
	defer s.leave()
	if n < 0 || n > s.length {
		return &hip.InputError{Op: "attention: truncate", Field: "n", Got: n, Want: fmt.Sprintf("0 to %d, the positions of the sequence", s.length)}
	}
	s.cutTo(min(blocksFor(n, s.cache.geometry.BlockSize), len(s.table)), n)
	for l := range s.written {
		s.written[l].cut(n)
	}
	return nil
}

// cutTo keeps the first pages, gives back the others, and sets the length.
func (s *Sequence) cutTo(pages, length int) {
	cut := s.table[pages:]
	s.mu.Lock()
	s.table, s.length = s.table[:pages], length
	s.mu.Unlock()
	s.cache.pages.release(cut)
}

// marks returns a copy of where each layer was written.
func (s *Sequence) marks() []presence {
	marks := make([]presence, len(s.written))
	for l := range s.written {
		marks[l] = s.written[l].clone()
	}
	return marks
}

// Fork returns a sequence of the same content. The two share pages until one of them claims
// a page for writing; then the page is copied. Writes by launches queued earlier are seen
// by both sides. A closed sequence is [ErrClosed].
func (s *Sequence) Fork() (*Sequence, error) {
	if err := s.enterOpen("fork"); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := s.cache.pages.retain("fork", s.table); err != nil {
		return nil, err
	}
	return &Sequence{cache: s.cache, length: s.length, table: slices.Clone(s.table), written: s.marks()}, nil
}

// Close gives back the pages. Calls after the first do nothing. A sequence that
// is in use is an error, the only one, and stays open.
func (s *Sequence) Close() error {
	if s == nil || s.cache == nil {
		return nil
	}
	if !s.enter() {
		return fmt.Errorf("attention: close: sequence is %w", errInUse)
	}
	defer s.leave()
	if s.closed {
		return nil
	}
	s.closed = true
	s.cutTo(0, 0)
	s.written = nil
	return nil
}

// limit is the number of positions that a sequence can have.
func (s *Sequence) limit() int { return s.cache.geometry.Rope.Positions }
