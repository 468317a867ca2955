package mtp

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/drafthead/drafthead/attention"
)

// Sequence holds the cached rows of one token sequence. Only one goroutine may use a
// sequence at a time; a second one gets an error. Close is optional: the head closes its
// caches, and a Sequence may be dropped.
type Sequence struct {
	cache *Cache
	kv    *attention.Sequence
	use   atomic.Bool // by a call, which alone looks at what follows

	// whole and carry belong to a chain that shifts tokens. Step s has final rows in its
	// layer up to row whole−1−s; those after it carry drafts, or were cut or changed.
	// carry[s] is a hidden state of row whole−1−s, with which the next call goes on: in an
	// aligned chain that of step s, in a target-fed one the target's. nil: nothing is
	// carried, and the next call runs rows again. Otherwise whole is Len.
	whole int
	carry [][]float32

	drafted drafted // the last chain, for Stats
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

// Resume returns the position from which the next Draft must be given rows: Len, or before
// it if the chain has to run rows again, as [ChainAligned] says.
func (s *Sequence) Resume() int {
	if n := s.Len(); n == 0 || !s.cache.head.chain.shifts() || s.carry != nil {
		return n
	}
	return s.wholeFrom()
}

// wholeFrom returns the last position from which all steps can run without carried states,
// −1 if the chain does not shift tokens.
func (s *Sequence) wholeFrom() int {
	if h := s.cache.head; h.chain.shifts() {
		return max(0, s.whole-(h.alignedSteps()-1))
	}
	return -1
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
// ones. If the cache has too few pages, the error is an [attention.CacheFullError]. Rows
// that the rotary embedding does not cover, a negative n, or a cache that is used with
// block tables are an [InputError]. Nothing has changed then.
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
//
// A sequence that becomes shorter carries nothing any more: see [Sequence.Resume]. What it
// carried belongs to its last rows, and what it would need belongs to the rows before n. To
// keep that of every row would take hidden_size float32 for each step but the last, at the
// released width with 4 steps 74 kB a row, many times what the row takes in the cache. The
// rows that run again instead are as many as the chain has steps, less one, and an engine
// that shares a beginning or goes back to one has their hidden states.
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
		s.changed(n)
	}
	return nil
}

// Fork returns a sequence of the same content. The two share pages until one of them writes
// to a page, which is then copied.
//
// A text that begins with the same n tokens as this one's shares n−1 rows and not n, since
// row n−1 carries token n: fork, Truncate(n−1), and go on with the other text's rows from
// [Sequence.Resume] on, which GUIDE.md draws:
//
//	b, err := a.Fork()       // A goes on as it was
//	err = b.Truncate(n - 1)  // n shared tokens
//	rows of B from b.Resume() on
//
// A share may end within a page.
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
	return &Sequence{cache: s.cache, kv: kv, whole: s.whole, carry: s.carry}, nil
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

// changed drops what the sequence carries: its rows from position n on were cut, or written
// by something other than Draft.
func (s *Sequence) changed(n int) { s.whole, s.carry = min(s.whole, n), nil }

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
	if e, ok := errors.AsType[*attention.CacheFullError](err); ok {
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
