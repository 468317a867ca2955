package mtp

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

// Cache is the paged KV cache of a head: pages of sparse_block_size tokens that
// many sequences share, with one layer of keys and values for each module, or
// for each step of an aligned chain. It belongs to the head.
//
// Its pages are handed out either by its Sequences or by an engine, with block
// tables: by whichever a Forward, Draft or Reserve first succeeds with. The other is
// refused from then on, since neither would know of the pages that the other gave away.
type Cache struct {
	head   *Head
	kv     *attention.Cache
	closed bool // guarded by head.using
	pager  pager
}

// NewCache allocates a cache of the given number of pages, at least one. A number of pages
// that cannot be numbered is an [InputError], memory that is short a [hip.ErrOutOfMemory], a
// closed head [ErrClosed].
func (h *Head) NewCache(pages int) (*Cache, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.leave()
	layers := h.config.NumMTPModules
	if h.chain == ChainAligned {
		layers = max(layers, h.alignedSteps())
	}
	kv, err := attention.NewCache(h.device, h.geometry, layers, pages, h.options.CacheFormat)
	if err != nil {
		return nil, fmt.Errorf("cache: %w", argumentError(err))
	}
	c := &Cache{head: h, kv: kv}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.caches[c] = struct{}{}
	return c, nil
}

// alignedSteps is the steps whose rows an aligned chain keeps.
func (h *Head) alignedSteps() int {
	if h.options.MaxDraft > 0 {
		return h.options.MaxDraft
	}
	return h.config.NumMTPModules
}

// Pages returns the number of pages.
func (c *Cache) Pages() int { return c.kv.Pages() }

// FreePages returns the number of pages that no Sequence holds. Of the pages that an engine
// hands out by block tables the cache knows nothing: all count as free.
func (c *Cache) FreePages() int { return c.kv.FreePages() }

// Bytes returns the device memory of the cache.
func (c *Cache) Bytes() int64 { return c.kv.Bytes() }

// PageSize returns the tokens of a page: sparse_block_size.
func (c *Cache) PageSize() int { return c.head.config.Sparse.BlockSize }

// Close frees the cache, after the head's calls under way. Its sequences can
// only be closed afterwards. It returns ErrClosed when the cache was freed
// before, by Close or with its head.
func (c *Cache) Close() error {
	h := c.head
	h.using.Lock()
	defer h.using.Unlock()
	if h.closed || c.closed {
		return fmt.Errorf("cache: %w", ErrClosed)
	}
	c.closed = true
	delete(h.caches, c)
	return c.kv.Close()
}

// Sequence is the cached rows of one token sequence. One goroutine uses a
// sequence at a time.
type Sequence struct {
	cache  *Cache
	kv     *attention.Sequence
	closed bool

	// Of an aligned chain: carry[s] is the hidden state that step s returned for
	// row aligned−1−s, its last whose tokens were all confirmed; step s+1 starts
	// from there. Valid while Len is aligned.
	carry   [][]float32
	aligned int // Len after the last Draft; −1: rows were changed otherwise since
}

// NewSequence returns an empty sequence.
func (c *Cache) NewSequence() *Sequence {
	return &Sequence{cache: c, kv: c.kv.NewSequence()}
}

// Len returns the number of rows. After Draft these are the committed ones.
func (s *Sequence) Len() int { return s.kv.Len() }

// Reserve takes the pages for n more rows ahead of a Forward, which then cannot
// find the cache full. Draft and Truncate return the pages that they do not use,
// reserved ones among them. A cache without so many is an [attention.CacheFullError],
// rows that the rotary embedding does not cover an [attention.PositionError], a negative n
// or a cache that is used with block tables an [InputError]; nothing has changed then.
func (s *Sequence) Reserve(n int) (err error) {
	length, limit := s.Len(), s.cache.head.config.Rope.Positions()
	switch {
	case s.closed:
		return closedError(attention.ErrClosedSequence)
	case n < 0:
		return &InputError{Sequence: -1, Field: "n", Got: n, Want: "at least 0", Err: attention.ErrRange}
	case n > limit-length:
		return fmt.Errorf("reserve %d rows behind %d: %w", n, length, &attention.PositionError{Position: limit, Limit: limit})
	case !s.cache.pager.hold(ownerSequences):
		return &InputError{Sequence: -1, Field: "cache", Got: "used with BlockTables", Want: "Sequences or BlockTables, not both"}
	}
	defer func() { s.cache.pager.release(err == nil) }()
	return closedError(s.kv.Reserve(n))
}

// Truncate drops the rows from position n on, 0 ≤ n ≤ Len. Another n is an [InputError].
func (s *Sequence) Truncate(n int) error {
	length := s.Len()
	if !s.closed && (n < 0 || n > length) {
		return &InputError{Sequence: -1, Field: "n", Got: n, Want: fmt.Sprintf("0 to %d, the rows that the sequence has", length), Err: attention.ErrRange}
	}
	if err := s.kv.Truncate(n); err != nil {
		return closedError(err)
	}
	if n < length {
		s.changed()
	}
	return nil
}

// changed drops the state of an aligned chain: it is not that of the rows any
// more. An empty sequence needs none.
func (s *Sequence) changed() {
	s.carry, s.aligned = nil, -1
	if s.Len() == 0 {
		s.aligned = 0
	}
}

// Fork returns a sequence of the same content that shares its pages until one
// side writes. The error is [ErrClosed].
func (s *Sequence) Fork() (*Sequence, error) {
	kv, err := s.kv.Fork()
	if err != nil {
		return nil, closedError(err)
	}
	// Draft replaces carried hidden states and never changes them.
	return &Sequence{cache: s.cache, kv: kv, aligned: s.aligned, carry: append([][]float32(nil), s.carry...)}, nil
}

// Close returns the pages. Calls after the first do nothing.
func (s *Sequence) Close() error {
	s.closed, s.carry = true, nil
	return s.kv.Close()
}

// closedError makes errors of closed caches and sequences match ErrClosed.
func closedError(err error) error {
	if errors.Is(err, attention.ErrClosedCache) || errors.Is(err, attention.ErrClosedSequence) {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

// BlockTable returns a copy of the sequence's pages in the order of positions.
func (s *Sequence) BlockTable() []int32 { return s.kv.BlockTable() }

// alignedReady tells whether an aligned chain can go on from here.
func (s *Sequence) alignedReady() error {
	if s.aligned != s.Len() {
		return fmt.Errorf("sequence of %d rows: %w", s.Len(), ErrNotAligned)
	}
	return nil
}

// rollback undoes what reserve and marks did.
func (r *resolved) rollback() error {
	var errs []error
	for i, before := range r.before {
		if s := r.Sequences[i].Sequence; s != nil {
			errs = append(errs, s.kv.Restore(before))
		}
	}
	return errors.Join(errs...)
}
