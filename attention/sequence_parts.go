package attention

import "fmt"

// What follows is what [Transaction] replaces, for callers that still use it.

// ReserveRange is Reserve for positions from … to−1.
func (s *Sequence) ReserveRange(from, to int) error {
	switch {
	case s.closed:
		return ErrClosedSequence
	case from < 0 || to < from || to > s.limit():
		return &RangeError{"reserve", from, to, s.limit()}
	}
	return s.reserve(from, to)
}

// MarkWritten records that the layer holds keys at from … to−1, and raises Len.
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.length = max(s.length, s.written[layer].end)
	return nil
}

// Present returns at which positions the layer holds keys.
func (s *Sequence) Present(layer int) (contiguous int, words []uint32) {
	if layer < 0 || layer >= len(s.written) {
		return 0, nil
	}
	p := &s.written[layer]
	return p.contiguous(), p.words
}

// State is what a sequence was at some time.
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
	return State{of: s, cuts: s.cuts, length: s.length, pages: len(s.table), written: s.marks()}
}

// Restore undoes what was reserved and marked since the state was taken.
func (s *Sequence) Restore(st State) error {
	switch {
	case s.closed:
		return ErrClosedSequence
	case st.of != s:
		return &ArgumentError{"restore", "state", "of another sequence", "one of this sequence"}
	case st.cuts != s.cuts:
		return &ArgumentError{"restore", "state", "of before a Truncate", "one after it"}
	}
	s.cutTo(st.pages, st.length)
	for l := range s.written {
		s.written[l] = st.written[l].clone()
	}
	return nil
}

// Span describes rows of this sequence to [Batch.Upload].
func (s *Sequence) Span(layer, from, rows int) Span {
	if layer < 0 || layer >= len(s.written) {
		return Span{BlockTable: s.table, Position: from, Rows: rows, Presence: []uint32{}}
	}
	return s.span(layer, from, rows)
}
