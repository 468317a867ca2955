package mtp

import (
	"errors"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// given tells whether there is anything.
func (h *Hidden) given() bool { return h.Float32 != nil || h.BFloat16 != nil || h.Device != 0 }

// valueBytes is the size of a value on the device.
func (h *Hidden) valueBytes() int {
	if h.DeviceBFloat16 {
		return 2
	}
	return 4
}

// check returns an error unless h has n values in exactly one form.
func (h *Hidden) check(field string, n int) error {
	forms, got := 0, n
	if h.Float32 != nil {
		forms, got = forms+1, len(h.Float32)
	}
	if h.BFloat16 != nil {
		forms, got = forms+1, len(h.BFloat16)
	}
	if h.Device != 0 {
		forms++
	}
	switch {
	case forms == 0:
		return &InputError{Sequence: -1, Field: field, Got: "not given", Want: "one of Float32, BFloat16, Device"}
	case forms > 1:
		return &InputError{Sequence: -1, Field: field, Got: fmt.Sprintf("given in %d forms", forms), Want: "one of Float32, BFloat16, Device"}
	case got != n:
		return &InputError{Sequence: -1, Field: "len(" + field + ")", Got: got, Want: fmt.Sprintf("%d, rows × hidden_size", n)}
	}
	return nil
}

// rows is the number of rows of all sequences.
func (b *Batch) rows() int {
	n := 0
	for i := range b.Sequences {
		n += len(b.Sequences[i].Tokens)
	}
	return n
}

// resolved is a batch that was checked, with the cache it runs on.
type resolved struct {
	*Batch
	cache  *Cache
	total  int               // rows
	before []attention.State // of each sequence
	k      int               // drafts that are asked for
}

// check looks at everything that can be known before something is taken.
func (h *Head) check(b *Batch) (*resolved, error) {
	r := &resolved{Batch: b, cache: b.Cache, total: b.rows()}
	if len(b.Sequences) == 0 {
		return nil, &InputError{Sequence: -1, Field: "Sequences", Got: "empty", Want: "at least one"}
	}
	seen := make(map[*Sequence]int, len(b.Sequences))
	for i := range b.Sequences {
		s := &b.Sequences[i]
		if err := h.checkRows(r, i, s); err != nil {
			return nil, err
		}
		if s.Sequence != nil {
			if first, twice := seen[s.Sequence]; twice {
				return nil, &InputError{Sequence: i, Field: "Sequence", Got: fmt.Sprintf("that of sequence %d", first), Want: "each once"}
			}
			seen[s.Sequence] = i
		}
	}
	n := r.total * h.config.HiddenSize
	if err := b.Hidden.check("Hidden", n); err != nil {
		return nil, err
	}
	if b.Embeds.given() {
		if err := b.Embeds.check("Embeds", n); err != nil {
			return nil, err
		}
	}
	return r, errors.Join(h.checkHidden("Hidden", &b.Hidden, r.total), h.checkHidden("Embeds", &b.Embeds, r.total))
}

// checkHidden checks memory of hidden states on the device, if that is where they are.
func (h *Head) checkHidden(field string, hidden *Hidden, rows int) error {
	if hidden.Device == 0 {
		return nil
	}
	return h.checkMemory(field, hidden.Device, rows, hidden.valueBytes(), false)
}

// checkMemory returns an error unless the device knows rows × hidden_size values of size
// bytes at p, if it can tell. A GPU faults on values that are not aligned.
func (h *Head) checkMemory(field string, p hip.Ptr, rows, size int, write bool) error {
	width := h.config.HiddenSize
	if uint64(p)%uint64(size) != 0 {
		return &InputError{Sequence: -1, Field: field, Got: fmt.Sprintf("memory at %#x", uint64(p)), Want: fmt.Sprintf("an address that is a multiple of %d", size)}
	}
	err := h.checkRange(p, int64(rows)*int64(width)*int64(size), write)
	if !errors.Is(err, hip.ErrAccess) {
		return err
	}
	want := fmt.Sprintf("%d × %d %s that the device knows (Alloc, Adopt, Import)", rows, width, map[int]string{2: "bfloat16", 4: "float32"}[size])
	if write {
		want += " and may write"
	}
	return &InputError{Sequence: -1, Field: field, Got: fmt.Sprintf("memory at %#x", uint64(p)), Want: want, Err: err}
}

// checkRange is the device's CheckRange, if it has one.
func (h *Head) checkRange(p hip.Ptr, n int64, write bool) error {
	if device, ok := hip.As[hip.RangeChecker](h.device); ok {
		return device.CheckRange(p, n, write)
	}
	return nil
}

func (h *Head) checkRows(r *resolved, i int, s *Rows) error {
	bad := func(field string, got any, want string, err error) error {
		return &InputError{Sequence: i, Field: field, Got: got, Want: want, Err: err}
	}
	cache := r.Batch.Cache
	switch {
	case (s.Sequence == nil) == (s.BlockTable == nil):
		return bad("Sequence and BlockTable", "given both or neither", "one of them", nil)
	case s.Sequence != nil:
		cache = s.Sequence.cache
	case cache == nil:
		return bad("Batch.Cache", "nil", "the cache of the BlockTable's pages", nil)
	}
	switch {
	case s.Sequence != nil && s.Sequence.closed:
		return bad("Sequence", "closed", "an open one", ErrClosed)
	case cache.head != h:
		return bad("cache", "another head's", "one of this head", nil)
	case cache.closed:
		return bad("cache", "closed", "an open one", ErrClosed)
	case r.cache != nil && r.cache != cache:
		return bad("cache", "another than the sequences before", "one cache in a batch", nil)
	case (s.Sequence == nil) != (r.Sequences[0].Sequence == nil):
		return bad("Sequence and BlockTable", "other than in the sequences before", "Sequences or BlockTables, not both", nil)
	}
	r.cache = cache
	if len(s.Tokens) == 0 {
		return bad("Tokens", "empty", "at least one", nil)
	}
	for j, t := range s.Tokens {
		if t < 0 || int(t) >= h.config.VocabSize {
			return bad(fmt.Sprintf("Tokens[%d]", j), t, fmt.Sprintf("0 to %d", h.config.VocabSize-1), ErrToken)
		}
	}
	if s.Position < 0 {
		return bad("Position", s.Position, "at least 0", nil)
	}
	if s.Sequence != nil && s.Position > s.Sequence.Len() {
		return bad("Position", s.Position, fmt.Sprintf("at most %d, the rows that the sequence has", s.Sequence.Len()), nil)
	}
	return nil
}

// checkWritten looks at the positions from … to−1 that a call writes in each sequence:
// that the rotary embedding covers them, and that a BlockTable has pages for them.
func (h *Head) checkWritten(r *resolved, written func(i int) (from, to int)) error {
	limit := h.config.Rope.Positions()
	for i := range r.Sequences {
		if _, to := written(i); to < 0 || to > limit { // below 0: the sum is past the largest int
			return r.positionError(i, to, limit)
		}
	}
	if r.Sequences[0].Sequence != nil {
		return nil
	}
	return r.checkTables(written)
}

// positionError says how far the rows of a sequence reach, and what with.
func (r *resolved) positionError(i, to, limit int) error {
	s := &r.Sequences[i]
	reach := fmt.Sprintf("rows at positions %d to %d", s.Position, s.Position+len(s.Tokens)-1)
	if to > s.Position+len(s.Tokens) {
		reach += fmt.Sprintf(", and with k %d drafts to %d", r.k, to-1)
	}
	return fmt.Errorf("sequence %d: %s: %w", i, reach, &attention.PositionError{Position: max(s.Position, to-1), Limit: limit})
}

// checkTables looks at the block tables of an engine: each has pages of the cache for all
// positions up to the last one written, and those that are written to stand there once.
func (r *resolved) checkTables(written func(i int) (from, to int)) error {
	type entry struct{ sequence, block int }
	size, pages := r.cache.PageSize(), r.cache.Pages()
	writers := make(map[int32]entry)
	for i := range r.Sequences {
		from, to := written(i)
		table, first, blocks := r.Sequences[i].BlockTable, from/size, (to+size-1)/size
		if len(table) < blocks {
			return &InputError{Sequence: i, Field: "len(BlockTable)", Got: len(table), Want: fmt.Sprintf("at least %d, for position %d", blocks, to-1)}
		}
		refuse := func(block int, want string, err error) error {
			return &InputError{Sequence: i, Field: fmt.Sprintf("BlockTable[%d]", block), Got: table[block], Want: want, Err: err}
		}
		for block, page := range table[:blocks] {
			if page < 0 || int(page) >= pages {
				return refuse(block, fmt.Sprintf("a page, 0 to %d", pages-1), attention.ErrArgument)
			}
		}
		taken := func(block int, by entry) error {
			return refuse(block, fmt.Sprintf("a page of its own: rows are written to it as BlockTable[%d] of sequence %d", by.block, by.sequence), attention.ErrArgument)
		}
		for block := first; block < blocks; block++ {
			if by, is := writers[table[block]]; is {
				return taken(block, by)
			}
			writers[table[block]] = entry{i, block}
			// Pages that other sequences read are the engine's affair.
			if read := slices.Index(table[:first], table[block]); read >= 0 {
				return taken(read, entry{i, block})
			}
		}
	}
	return nil
}
