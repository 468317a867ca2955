package attention

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Span is the rows of one sequence in one layer, at consecutive positions, that a pass
// writes and attends from: see [Transaction.Span]. It is valid until its transaction ends
// or marks other rows of the same sequence.
type Span struct {
	of *Transaction
	// table is the page of each block of positions, at least up to the last row's.
	table []int32
	// presence has one bit for each position, bit j%32 of word j/32. It is set if the
	// position holds a key; those of the rows are set. nil: all positions up to the last
	// row hold one.
	presence       []uint32
	position, rows int
}

// end is one past the last row.
func (s *Span) end() int { return s.position + s.rows }

// blocks is the number of blocks up to the last row.
func (s *Span) blocks(size int) int { return blocksFor(s.end(), size) }

// checkSpan returns all that is wrong with span i. It builds nothing to report until there
// is something to report.
func (b *Batch) checkSpan(i int, s *Span) error {
	var errs []error
	refuse := func(field string, got any, want string, rule error) {
		errs = append(errs, &hip.InputError{Op: "attention: batch", Sequence: i + 1, Field: field, Got: got, Want: want, Err: rule})
	}
	b.checkRows(s, refuse)
	if errs != nil {
		return errors.Join(errs...)
	}
	b.checkTable(s, refuse)
	checkPresence(s, refuse)
	return errors.Join(errs...)
}

type refuseFunc = func(field string, got any, want string, rule error)

func (b *Batch) checkRows(s *Span, refuse refuseFunc) {
	limit := b.cache.geometry.Rope.Positions
	switch {
	case s.of != nil && s.of.ended:
		refuse("span", "of a transaction that ended", "one of an open transaction", ErrClosed)
	case s.of != nil && s.of.cache != b.cache:
		refuse("span", "another cache's", "one of this cache", nil)
	case s.position < 0 || s.position >= limit:
		refuse("position", s.position, fmt.Sprintf("0 to %d", limit-1), ErrPosition)
	case s.rows < 1:
		refuse("rows", s.rows, "at least 1", nil)
	case s.rows > limit-s.position:
		refuse("rows", s.rows, fmt.Sprintf("at most %d, the positions that there are from %d on", limit-s.position, s.position), ErrPosition)
	}
}

// checkTable checks the pages. A page is written by the rows of one span only.
func (b *Batch) checkTable(s *Span, refuse refuseFunc) {
	size, pages := b.cache.geometry.BlockSize, len(b.shared.writers)
	blocks := s.blocks(size)
	if n := len(s.table); n < blocks {
		refuse("len(table)", n, fmt.Sprintf("at least %d, for position %d", blocks, s.end()-1), nil)
	}
	for block, page := range s.table[:min(blocks, len(s.table))] {
		switch {
		case page < 0 || int(page) >= pages:
			refuse(fmt.Sprintf("table[%d]", block), page, fmt.Sprintf("a page, 0 to %d", pages-1), nil)
		case block < s.position/size: // only read
		case b.shared.writers[page] == b.shared.upload:
			refuse(fmt.Sprintf("table[%d]", block), page, "a page that no other rows of the batch are written to", nil)
		default:
			b.shared.writers[page] = b.shared.upload
		}
	}
}

// checkPresence checks that the rows' own positions are present.
func checkPresence(s *Span, refuse refuseFunc) {
	if s.presence == nil {
		return
	}
	if n := len(s.presence); n < wordsFor(s.end()) {
		refuse("presence", fmt.Sprintf("of %d words", n), fmt.Sprintf("at least %d, for position %d", wordsFor(s.end()), s.end()-1), nil)
		return
	}
	for j := s.position; j < s.end(); j++ {
		if s.presence[j/32]>>(j%32)&1 == 0 {
			refuse("presence", fmt.Sprintf("without position %d", j), "the rows' own positions", nil)
		}
	}
}
