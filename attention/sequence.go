package attention

import (
	"fmt"
	"slices"
)

// Sequence is the cache of one token sequence: its block table, and which
// positions each layer was written at. One goroutine uses a sequence at a time.
//
// Pages are reserved before rows are written, and shared pages are copied then,
// so that a fork never sees what the other side writes. Len is one past the
// highest position marked written in any layer; draft rows are provisional
// until the caller keeps them, and Truncate drops them.
type Sequence struct {
	cache   *Cache
	length  int
	table   []int32
	written []presence // by layer
	cuts    uint64     // how often Truncate was called
	closed  bool
}

// NewSequence returns an empty sequence, which holds no pages.
func (c *Cache) NewSequence() *Sequence {
	return &Sequence{cache: c, written: make([]presence, len(c.layers))}
}

// Len is one past the highest position written.
func (s *Sequence) Len() int { return s.length }

// Reserve gives the sequence, alone, the pages of the n positions behind Len.
// Errors are those of [Sequence.ReserveRange].
func (s *Sequence) Reserve(n int) error {
	if n < 0 || n > s.limit()-s.length {
		return &RangeError{"reserve", s.length, s.length + n, s.limit()}
	}
	return s.ReserveRange(s.length, s.length+n)
}

// ReserveRange gives the sequence, alone, the pages of positions from … to−1,
// which may be written before, and pages up to there. Pages that a fork shares
// are copied. On any error nothing has changed: a [CacheFullError] when too few
// pages are free, a [RangeError] for positions that the rotary embedding does
// not cover, [ErrClosedSequence], [ErrClosedCache], or the device's error.
func (s *Sequence) ReserveRange(from, to int) error {
	switch {
	case s.closed:
		return ErrClosedSequence
	case from < 0 || to < from || to > s.limit():
		return &RangeError{"reserve", from, to, s.limit()}
	case from == to:
		return nil
	}
	c := s.cache
	first := min(from/c.geometry.BlockSize, len(s.table))
	end := s.pagesFor(to)
	held := s.table[first:min(end, len(s.table))]
	fresh, shared, err := c.pages.take(held, max(end-len(s.table), 0))
	if err != nil {
		return err
	}
	copies, grown := fresh[:len(shared)], fresh[len(shared):]
	for i, h := range shared {
		if (first+h)*c.geometry.BlockSize >= s.length {
			continue // reserved but never written
		}
		if err := c.copyPage(copies[i], held[h]); err != nil {
			c.pages.release(fresh)
			return err
		}
	}
	for i, h := range shared {
		held[h], copies[i] = copies[i], held[h]
	}
	c.pages.release(copies) // now the pages that were shared
	s.table = append(s.table, grown...)
	return nil
}

// MarkWritten records that the layer holds keys at from … to−1, and raises Len.
// The range must be reserved. Mark what a forward is about to write before its
// [Batch] is uploaded, since a row attends to itself. Should the forward fail,
// Restore takes back what was marked.
func (s *Sequence) MarkWritten(layer, from, to int) error {
	if s.closed {
		return ErrClosedSequence
	}
	if layer < 0 || layer >= len(s.written) {
		return &ArgumentError{"mark written", "layer", layer, fmt.Sprintf("0 to %d", len(s.written)-1)}
	}
	if reserved := len(s.table) * s.cache.geometry.BlockSize; from < 0 || to < from || to > reserved {
		return &RangeError{"mark written", from, to, reserved}
	}
	s.written[layer].mark(from, to)
	s.length = max(s.length, s.written[layer].end)
	return nil
}

// Present tells at which positions the layer holds keys: the length of the run
// from position 0 and, when there are others behind a hole, one bit for each
// position, bit j%32 of word j/32. words belongs to the sequence and is valid
// until its next change. A layer that is out of range holds nothing.
func (s *Sequence) Present(layer int) (contiguous int, words []uint32) {
	if layer < 0 || layer >= len(s.written) {
		return 0, nil
	}
	p := &s.written[layer]
	return p.contiguous(), p.words
}

// Truncate drops the positions from n on, 0 ≤ n ≤ Len, in all layers, and
// returns the pages that are not needed any more, reserved ones included.
func (s *Sequence) Truncate(n int) error {
	if s.closed {
		return ErrClosedSequence
	}
	if n < 0 || n > s.length {
		return &RangeError{"truncate", n, max(n, s.length), s.length + 1}
	}
	s.cuts++
	keep := min(s.pagesFor(n), len(s.table))
	s.cache.pages.release(s.table[keep:])
	s.table = s.table[:keep]
	s.length = n
	for l := range s.written {
		s.written[l].cut(n)
	}
	return nil
}

// State is what a sequence was at some time: its length, its number of pages, and
// where each layer was written.
type State struct {
	of            *Sequence
	cuts          uint64
	length, pages int
	written       []presence
}

// Len is what the sequence's Len was.
func (st *State) Len() int { return st.length }

// State returns the present state, for [Sequence.Restore].
func (s *Sequence) State() State {
	st := State{of: s, cuts: s.cuts, length: s.length, pages: len(s.table), written: make([]presence, len(s.written))}
	for l := range s.written {
		st.written[l] = s.written[l].clone()
	}
	return st
}

// Restore undoes what was reserved and marked since the state was taken: positions and
// pages are those of then. What was written again meanwhile stays as it is. The state of
// another sequence, or of one that was truncated in between, is an [ArgumentError].
func (s *Sequence) Restore(st State) error {
	switch {
	case s.closed:
		return ErrClosedSequence
	case st.of != s:
		return &ArgumentError{"restore", "state", "of another sequence", "one of this sequence"}
	case st.cuts != s.cuts:
		return &ArgumentError{"restore", "state", "of before a Truncate", "one behind it"}
	}
	s.cache.pages.release(s.table[st.pages:])
	s.table, s.length = s.table[:st.pages], st.length
	for l := range s.written {
		s.written[l] = st.written[l].clone()
	}
	return nil
}

// Fork returns a sequence of the same content. Pages are shared until one side
// reserves them for writing; what queued launches still write to them is seen
// by both sides.
func (s *Sequence) Fork() (*Sequence, error) {
	if s.closed {
		return nil, ErrClosedSequence
	}
	if err := s.cache.pages.retain(s.table); err != nil {
		return nil, err
	}
	fork := &Sequence{cache: s.cache, length: s.length, table: slices.Clone(s.table)}
	for l := range s.written {
		fork.written = append(fork.written, s.written[l].clone())
	}
	return fork, nil
}

// Close returns the pages. Calls after the first do nothing.
func (s *Sequence) Close() error {
	if s.closed {
		return nil
	}
	s.cache.pages.release(s.table)
	*s = Sequence{cache: s.cache, closed: true}
	return nil
}

// BlockTable returns a copy of the page of each block of positions.
func (s *Sequence) BlockTable() []int32 { return slices.Clone(s.table) }

// Span describes rows of this sequence to [Batch.Upload]: positions from …
// from+rows−1 of the layer, over what is marked written there. Upload refuses
// rows that are not marked. The span shares the sequence's memory and is valid
// until the sequence changes.
func (s *Sequence) Span(layer, from, rows int) Span {
	span := Span{BlockTable: s.table, Position: from, Rows: rows}
	if layer < 0 || layer >= len(s.written) {
		span.Presence = []uint32{}
	} else if p := &s.written[layer]; p.words != nil || rows <= p.end-from {
		span.Presence = p.words
	} else { // without bits it would claim that everything is there
		span.Presence = fillBits([]uint32{}, 0, p.end)
	}
	return span
}

// limit is the number of positions that a sequence can have.
func (s *Sequence) limit() int { return s.cache.geometry.Rope.Positions() }

func (s *Sequence) pagesFor(n int) int {
	size := s.cache.geometry.BlockSize
	return n/size + min(n%size, 1)
}
