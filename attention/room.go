package attention

import "fmt"

// room is the pages that a sequence will get: one in place of each shared page that it will
// write, and more at the end of its table.
type room struct {
	table []int32 // of the sequence, which has none of the following yet
	swaps []swap
	grown []int32
}

// swap replaces the page of a block.
type swap struct {
	block int
	page  int32 // the new one
}

// held is the number of pages with the room.
func (r *room) held() int { return len(r.table) + len(r.grown) }

// taking takes pages for the sequences of one call, all of them or none, while it holds the
// lock of pages. Invariant: a shared page keeps its references until the room is in place,
// so that its content can be copied before.
type taking struct {
	*pages
	taken   []int32
	dropped map[int32]int32 // references that swaps are going to drop, by page
}

// lacks reports whether the sequence needs a page for a block that it is going to write.
// A block that was swapped is not asked about again.
func (t *taking) lacks(r *room, block int) bool {
	if block < len(r.table) {
		page := r.table[block]
		return t.refs[page]-t.dropped[page] > 1
	}
	return block >= r.held()
}

// need counts the pages that the sequence lacks for the blocks first … end−1, and for
// blocks before them past the end of its table.
func (t *taking) need(r *room, first, end int) (n int) {
	for block := min(first, r.held()); block < end; block++ {
		if t.lacks(r, block) {
			n++
		}
	}
	return n
}

// reach returns the block up to which, from first on and up to end, free pages suffice.
func (t *taking) reach(r *room, first, end int) int {
	left := len(t.free)
	for block := min(first, r.held()); block < end; block++ {
		if !t.lacks(r, block) {
			continue
		}
		if left == 0 {
			return block
		}
		left--
	}
	return end
}

// take adds to the room the pages that need counts. The caller has checked that they are
// free.
func (t *taking) take(r *room, first, end int) {
	for block := min(first, r.held()); block < end; block++ {
		if !t.lacks(r, block) {
			continue
		}
		last := len(t.free) - 1
		page := t.free[last]
		t.free, t.refs[page] = t.free[:last], 1
		t.taken = append(t.taken, page)
		if block >= len(r.table) {
			r.grown = append(r.grown, page)
			continue
		}
		if t.dropped == nil {
			t.dropped = make(map[int32]int32)
		}
		t.dropped[r.table[block]]++
		r.swaps = append(r.swaps, swap{block, page})
	}
}

// takeAll takes the pages of the blocks first … end−1, or none: the error is a
// [*CacheFullError] of a call, and of one of its sequences if sequence is above 0.
func (t *taking) takeAll(op string, sequence int, r *room, first, end int) error {
	if need := t.need(r, first, end); need > len(t.free) {
		return &CacheFullError{Op: "attention: " + op, Sequence: sequence, Needed: need, Free: len(t.free)}
	}
	t.take(r, first, end)
	return nil
}

// undo gives back the pages that were taken.
func (t *taking) undo() {
	t.drop(t.taken)
	t.taken = nil
}

// copyShared copies to the new pages what the sequence has written in the old ones: its
// positions before length.
func (c *Cache) copyShared(r *room, length int) error {
	if len(r.swaps) == 0 {
		return nil
	}
	c.using.RLock()
	defer c.using.RUnlock()
	if c.layers[0].keys == 0 { // since the pages were taken
		return fmt.Errorf("cache is %w", ErrClosed)
	}
	for _, s := range r.swaps {
		if s.block*c.geometry.BlockSize >= length {
			continue // reserved and never written
		}
		if err := c.copyPage(s.page, r.table[s.block]); err != nil {
			return err
		}
	}
	return nil
}

// put puts the room into the sequence's table, and returns the pages that were swapped out.
func (s *Sequence) put(r *room) (old []int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, swap := range r.swaps {
		old = append(old, s.table[swap.block])
		s.table[swap.block] = swap.page
	}
	s.table = append(s.table, r.grown...)
	return old
}

// takeOne is takeAll for one sequence, and returns what it took.
func (p *pages) takeOne(op string, r *room, first, end int) ([]int32, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open(op); err != nil {
		return nil, err
	}
	taking := taking{pages: p}
	if err := taking.takeAll(op, 0, r, first, end); err != nil {
		return nil, err
	}
	return taking.taken, nil
}
