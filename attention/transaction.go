package attention

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Transaction is the writing of one call to the pages of its sequences, from [Cache.Begin]
// to Commit or Rollback. One goroutine uses it at a time. Its sequences are in use
// meanwhile: whatever else would change them is refused with [ErrInUse].
type Transaction struct {
	cache  *Cache
	owner  owner
	claims []claimed
	ended  bool
}

// claimed is a claim, and what its sequence was before.
type claimed struct {
	Claim
	spare int // that were given

	room    room
	kept    int // pages of the sequence, without those for spare rows alone
	pages   int // before
	written []presence
}

// Begin claims the pages of all sequences of a call, or of none. It gives every claim room
// for its positions From … To−1, with pages of its own in place of those that a fork shares,
// which it copies. Then it gives spare positions, in the order of claims, as far as free
// pages, a block table and the positions of [Rope] reach: few or none of them are not an error. Nor
// are there any where the sequence goes on after To, since they would overwrite its rows.
//
// All claims are of the same kind, sequences or block tables, and of this cache. A cache's
// pages are handed out either by the cache, to sequences, or by an engine, by block tables:
// the first call that succeeds settles which, and the other is refused from then on.
//
// On any error nothing has changed. Bad claims are an [hip.InputError], whose Sequence is
// that of the claim, and which wraps [ErrPosition] for rows beyond Rope.Positions(),
// [ErrInUse] for a sequence of another transaction or call under way, and [ErrClosed].
// Too few free pages are [ErrCacheFull], with the sequence in the text.
func (c *Cache) Begin(claims ...Claim) (*Transaction, error) {
	if len(claims) == 0 {
		return nil, &hip.InputError{Op: "attention: begin", Field: "claims", Got: "empty", Want: "at least one"}
	}
	if len(c.layers) == 0 {
		return nil, &hip.InputError{Op: "attention: begin", Field: "cache", Got: "empty", Want: "one of NewCache"}
	}
	for i := range claims {
		if err := c.checkClaim(claims, i); err != nil {
			return nil, err
		}
	}
	t := &Transaction{cache: c, owner: claims[0].owner(), claims: make([]claimed, len(claims))}
	for i := range claims {
		t.claims[i].Claim = claims[i]
	}
	begin := t.beginSequences
	if t.owner == ownerTables {
		begin = t.beginTables
	}
	if !c.owner.hold(t.owner) {
		field := map[owner]string{ownerSequences: "Sequence", ownerTables: "BlockTable"}[t.owner]
		return nil, refuseClaim(0, field, "given", "what the cache is used with: Sequences or BlockTables, not both", nil)
	}
	if err := begin(); err != nil {
		c.owner.release(false)
		return nil, err
	}
	return t, nil
}

// beginTables looks at the pages that the claims name.
func (t *Transaction) beginTables() error {
	c := t.cache
	c.pages.mu.Lock()
	err := c.pages.open("begin")
	c.pages.mu.Unlock()
	if err != nil {
		return err
	}
	seen := tables{cache: c, writers: make(map[int32]tableEntry)}
	for i := range t.claims {
		if err := seen.check(i, &t.claims[i].Claim); err != nil {
			return err
		}
	}
	for i := range t.claims {
		claim := &t.claims[i]
		want := claim.wanted(c)
		_, _, first := claim.blocks(c.geometry.BlockSize)
		claim.spare = claim.within(seen.reach(i, &claim.Claim, first, blocksFor(claim.To+want, c.geometry.BlockSize)), want, c)
	}
	return nil
}

// beginSequences takes the sequences into use and gives them pages.
func (t *Transaction) beginSequences() (err error) {
	used := 0
	defer func() {
		if err != nil {
			t.leave(used)
		}
	}()
	for i := range t.claims {
		s := t.claims[i].Sequence
		if !s.enter() {
			for j := range i {
				if t.claims[j].Sequence == s {
					return refuseClaim(i, "Sequence", fmt.Sprintf("that of Sequences[%d]", j), "each once", nil)
				}
			}
			return refuseClaim(i, "Sequence", "in use", "one that no other call uses", ErrInUse)
		}
		used++
		if s.closed {
			return refuseClaim(i, "Sequence", "closed", "an open one", ErrClosed)
		}
	}
	taken, err := t.take()
	if err != nil {
		return err
	}
	for i := range t.claims {
		claim := &t.claims[i]
		if err := t.cache.copyShared(&claim.room, claim.Sequence.length); err != nil {
			t.cache.pages.release(taken)
			return fmt.Errorf("attention: begin: Sequences[%d]: %w", i, err)
		}
	}
	var old []int32
	for i := range t.claims {
		claim := &t.claims[i]
		claim.written = claim.Sequence.marks()
		old = append(old, claim.Sequence.put(&claim.room)...)
	}
	t.cache.pages.release(old)
	return nil
}

// take takes the pages of all claims, and returns them.
func (t *Transaction) take() ([]int32, error) {
	p, size := &t.cache.pages, t.cache.geometry.BlockSize
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.open("begin"); err != nil {
		return nil, err
	}
	taking := taking{pages: p}
	for i := range t.claims {
		claim := &t.claims[i]
		claim.room.table, claim.pages = claim.Sequence.table, len(claim.Sequence.table)
		if first, end, _ := claim.blocks(size); first < end {
			if err := taking.takeAll(&claim.room, first, end); err != nil {
				taking.undo()
				return nil, fmt.Errorf("attention: begin: Sequences[%d]: %w", i, err)
			}
		}
		claim.kept = claim.room.held()
	}
	for i := range t.claims {
		claim := &t.claims[i]
		want := claim.wanted(t.cache)
		_, _, first := claim.blocks(size)
		reach := taking.reach(&claim.room, first, blocksFor(claim.To+want, size))
		if claim.spare = claim.within(reach, want, t.cache); claim.spare > 0 {
			taking.take(&claim.room, first, reach)
		}
	}
	return taking.taken, nil
}

// wanted is the spare positions that the claim can have but for pages.
func (c *claimed) wanted(cache *Cache) int {
	if c.Sequence != nil && c.To < c.Sequence.length {
		return 0
	}
	return min(c.Spare, cache.geometry.Rope.Positions()-c.To)
}

// within is the spare positions, of those wanted, that lie before a block.
func (c *claimed) within(block, want int, cache *Cache) int {
	return max(0, min(want, block*cache.geometry.BlockSize-c.To))
}

// leave ends the use of the first n sequences.
func (t *Transaction) leave(n int) {
	for i := range t.claims[:n] {
		if s := t.claims[i].Sequence; s != nil {
			s.leave()
		}
	}
}

// Spare is the positions that claim i may write from its To on: at most its Spare.
func (t *Transaction) Spare(i int) int {
	if i < 0 || i >= len(t.claims) {
		return 0
	}
	return t.claims[i].spare
}

// Span marks the rows at positions from … from+rows−1 of claim i written in the layer, and
// returns them for a [Batch]. Mark what a pass is about to write before the batch is
// encoded, since a row attends to itself. The rows lie within those that were claimed,
// spare ones included, or the error is an [hip.InputError]. The span shares the sequence's
// memory and is valid until the next Span of the claim, or the end.
func (t *Transaction) Span(i, layer, from, rows int) (Span, error) {
	refuse := func(field string, got any, want string) (Span, error) {
		return Span{}, &hip.InputError{Op: "attention: span", Field: field, Got: got, Want: want}
	}
	switch layers := len(t.cache.layers); {
	case t.ended:
		return Span{}, fmt.Errorf("attention: span: transaction is %w", ErrClosed)
	case i < 0 || i >= len(t.claims):
		return refuse("claim", i, fmt.Sprintf("0 to %d", len(t.claims)-1))
	case layer < 0 || layer >= layers:
		return refuse("layer", layer, fmt.Sprintf("0 to %d", layers-1))
	}
	claim := &t.claims[i]
	switch end := claim.To + claim.spare; {
	case from < claim.From || from > end:
		return refuse("from", from, fmt.Sprintf("%d to %d, positions that Sequences[%d] claims", claim.From, end, i))
	case rows < 1 || rows > end-from:
		return refuse("rows", rows, fmt.Sprintf("1 to %d, which Sequences[%d] claims from there on", end-from, i))
	}
	if claim.Sequence == nil {
		return Span{of: t, table: claim.BlockTable, position: from, rows: rows}, nil
	}
	written := &claim.Sequence.written[layer]
	written.mark(from, from+rows)
	return Span{of: t, table: claim.Sequence.table, presence: written.words, position: from, rows: rows}, nil
}

// Commit ends the transaction. Each sequence has the rows before To, and what it had before;
// Len is To where it was less and the claim has rows. Spare rows are dropped, and the pages
// that Begin took for them alone are given back. Pages that were reserved before stay. The
// transaction must not have ended, or the error wraps [ErrClosed].
func (t *Transaction) Commit() error {
	if t.ended {
		return fmt.Errorf("attention: commit: transaction is %w", ErrClosed)
	}
	t.end(true, func(c *claimed) {
		s := c.Sequence
		length := s.length
		if c.From < c.To {
			length = max(length, c.To)
		}
		if c.spare > 0 { // nothing was there from To on
			for l := range s.written {
				s.written[l].cut(c.To)
			}
		}
		s.cutTo(c.kept, length)
	})
	return nil
}

// Rollback ends the transaction and leaves the sequences as they were before Begin: what
// was marked since is gone, and so are the pages. Rows that were written again stay as they
// are now, and a page that was copied stays the sequence's own. After the end it does
// nothing, so that it can be deferred. The error is always nil.
func (t *Transaction) Rollback() error {
	if t.ended {
		return nil
	}
	t.end(false, func(c *claimed) {
		c.Sequence.written = c.written
		c.Sequence.cutTo(c.pages, c.Sequence.length)
	})
	return nil
}

// end ends the transaction, whose success settles who hands out pages.
func (t *Transaction) end(success bool, finish func(c *claimed)) {
	t.ended = true
	for i := range t.claims {
		if t.owner == ownerSequences {
			finish(&t.claims[i])
		}
	}
	t.leave(len(t.claims))
	t.cache.owner.release(success)
}
