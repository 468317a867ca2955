package mtp

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/drafthead/drafthead/attention"
)

// Sequence holds the cached rows of one token sequence. Only one goroutine may use a
// sequence at a time; a second one gets an error.
type Sequence struct {
	cache *Cache
	kv    *attention.Sequence
	use   atomic.Bool // by a call, which alone looks at what follows

	// carry and aligned belong to an aligned chain. carry[s] is the hidden state that step
	// s returned for row aligned−1−s, its last row whose tokens were all confirmed; step
	// s+1 starts from there. Valid while Len is aligned.
	carry   [][]float32
	aligned int // Len after the last Draft; −1: rows were changed otherwise since
}

// NewSequence returns an empty sequence.
func (c *Cache) NewSequence() *Sequence { return &Sequence{cache: c, kv: c.kv.NewSequence()} }

// Len returns the number of rows. After Draft these are the committed ones.
func (s *Sequence) Len() int {
	if s == nil {
		return 0
	}
	return s.kv.Len()
}

// BlockTable returns a copy of the sequence's pages in the order of positions.
func (s *Sequence) BlockTable() []int32 {
	if s == nil {
		return nil
	}
	return s.kv.BlockTable()
}

// Reserve takes the pages for n more rows, so that a later Forward does not find the cache
// full. Draft and Truncate give back the pages that they do not use, including reserved
// ones. If the cache has too few pages, the error wraps [attention.ErrCacheFull]. Rows that
// the rotary embedding does not cover, a negative n, or a cache that is used with block
// tables are an [InputError]. Nothing has changed then.
func (s *Sequence) Reserve(n int) error {
	if err := s.enter("reserve"); err != nil {
		return err
	}
	defer s.leave()
	if err := s.cache.enter(); err != nil { // pages that a fork shares are copied
		return err
	}
	defer s.cache.head.leave()
	return ofAttention("mtp: reserve", s.kv.Reserve(n))
}

// Truncate drops the rows from position n on, 0 ≤ n ≤ Len. Another n is an [InputError].
func (s *Sequence) Truncate(n int) error {
	if err := s.enter("truncate"); err != nil {
		return err
	}
	defer s.leave()
	length := s.Len()
	if err := s.kv.Truncate(n); err != nil {
		return ofAttention("mtp: truncate", err)
	}
	if n < length {
		s.changed()
	}
	return nil
}

// Fork returns a sequence of the same content. The two share pages until one of them writes
// to a page, which is then copied.
func (s *Sequence) Fork() (*Sequence, error) {
	if err := s.enter("fork"); err != nil {
		return nil, err
	}
	defer s.leave()
	kv, err := s.kv.Fork()
	if err != nil {
		return nil, ofAttention("mtp: fork", err)
	}
	// Draft replaces carried hidden states and never changes them.
	return &Sequence{cache: s.cache, kv: kv, aligned: s.aligned, carry: append([][]float32(nil), s.carry...)}, nil
}

// Close gives back the pages. Calls after the first do nothing. A sequence that a call
// still uses is an error and stays open.
func (s *Sequence) Close() error {
	if s == nil || s.cache == nil {
		return nil
	}
	if err := s.enter("close"); err != nil {
		return err
	}
	defer s.leave()
	return ofAttention("mtp: close", s.kv.Close())
}

// enter begins a use of the sequence by op; leave ends it.
func (s *Sequence) enter(op string) error {
	if s == nil || s.cache == nil {
		return refuse("Sequence", "the zero Sequence", "one of NewSequence", nil)
	}
	if !s.use.CompareAndSwap(false, true) {
		return fmt.Errorf("mtp: %s: sequence is %w", op, errInUse)
	}
	return nil
}

func (s *Sequence) leave() { s.use.Store(false) }

// changed drops the state of an aligned chain, which no longer belongs to the rows. An
// empty sequence needs none.
func (s *Sequence) changed() {
	s.carry, s.aligned = nil, -1
	if s.Len() == 0 {
		s.aligned = 0
	}
}

// ofAttention names an error of package attention after op, a call of this package.
func ofAttention(op string, err error) error {
	if err == nil {
		return nil
	}
	if all := joined(err); all != nil {
		own := make([]error, len(all))
		for i, e := range all {
			own[i] = ofAttention(op, e)
		}
		return errors.Join(own...)
	}
	if e, ok := errors.AsType[*InputError](err); ok {
		own := *e
		own.Op = op
		return &own
	}
	return fmt.Errorf("%s: %w", op, err)
}

// joined returns the errors of an errors.Join, nil for any other error.
func joined(err error) []error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(several.Unwrap()...).Error() {
		return nil
	}
	return several.Unwrap()
}
