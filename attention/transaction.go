package attention

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Transaction covers what one call writes to the pages of its sequences, from [Cache.Begin]
// to Commit or Rollback. Only one goroutine may use it at a time. Its sequences are in use
// until it ends: another call that would change them is refused.
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
	kept    int        // pages of the sequence, without those for spare rows alone
	pages   int        // before
	written []presence // before; of a BlockTable with Layers, as the transaction goes on
}

// Begin claims the pages of all sequences of a call, or of none. It gives every claim room
// for its positions From … To−1, and copies pages that a fork shares. Then it gives spare
// positions, in the order of claims, as far as free pages, the block table and the
// positions of [Rope] allow. Getting fewer than asked for, or none, is not an error. A
// sequence that already has rows after To gets none, because they would be overwritten.
//
// All claims must be of this cache and of the same kind, sequences or block tables. Either
// the cache hands out its pages, to sequences, or an engine does, by block tables. The
// first call that succeeds settles which; the other kind is refused from then on.
//
// On any error nothing has changed. A bad claim is a [hip.InputError] whose Sequence is
// that of the claim. It names a sequence that another transaction or call uses, wraps
// [ErrPosition] for rows beyond Rope.Positions, and wraps [ErrClosed]. Too few free pages
// are a [CacheFullError], which names the claim too.
func (c *Cache) Begin(claims ...Claim) (*Transaction, error) {
	if len(claims) == 0 {
		return nil, &hip.InputError{Op: "attention: begin", Field: "claims", Got: "empty", Want: "at least one"}
	}
	if c == nil || len(c.layers) == 0 {
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
		if claim.Layers > 0 {
			claim.written = make([]presence, len(c.layers))
			for l := range claim.Layers {
				claim.written[l].end = claim.From
			}
		}
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
			return refuseClaim(i, "Sequence", "in use", "one that no other call uses", errInUse)
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
			if err := taking.takeAll("begin", i+1, &claim.room, first, end); err != nil {
				taking.undo()
				return nil, err
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

// wanted returns how many spare positions the claim could have if there were pages for all.
func (c *claimed) wanted(cache *Cache) int {
	if c.Sequence != nil && c.To < c.Sequence.length {
		return 0
	}
	return min(c.Spare, cache.geometry.Rope.Positions-c.To)
}

// within returns how many of the wanted spare positions lie before a block.
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

// Spare returns how many positions claim i may write from its To on: at most its Spare.
func (t *Transaction) Spare(i int) int {
	if t == nil || i < 0 || i >= len(t.claims) {
		return 0
	}
	return t.claims[i].spare
}

// Span marks the rows at positions from … from+rows−1 of claim i as written in the layer,
// and returns them for a [Batch]. Mark the rows that a pass will write before you encode
// its batch, since a row attends to itself. Rows outside of the claim and its spare
// positions are a [hip.InputError]. The span shares the sequence's memory and is valid
// until the next Span of the claim, or the transaction's end.
func (t *Transaction) Span(i, layer, from, rows int) (Span, error) {
	refuse := func(field string, got any, want string) (Span, error) {
		return Span{}, &hip.InputError{Op: "attention: span", Field: field, Got: got, Want: want}
	}
	if t.over() {
		return Span{}, fmt.Errorf("attention: span: transaction is %w", ErrClosed)
	}
	switch layers := len(t.cache.layers); {
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
	span := Span{of: t, table: claim.BlockTable, position: from, rows: rows}
	marks := claim.written
	if claim.Sequence != nil {
		span.table, marks = claim.Sequence.table, claim.Sequence.written
	}
	if marks != nil {
		marks[layer].mark(from, from+rows)
		span.presence = marks[layer].words
	}
	return span, nil
}

// Commit ends the transaction and keeps the claimed rows: Len grows to To if it was less
// and the claim has rows. Commit drops spare rows and gives back the pages that Begin took
// only for them. Pages that were reserved before stay. If the transaction has already
// ended, the error wraps [ErrClosed].
func (t *Transaction) Commit() error {
	if t.over() {
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

// Rollback ends the transaction and restores the sequences' lengths, marks and pages from
// before Begin. The content of rows that were written again is not restored, and a page
// that was copied stays the sequence's own. After the end it does nothing, so that it can
// be deferred. The error is always nil.
func (t *Transaction) Rollback() error {
	if t.over() {
		return nil
	}
	t.end(false, func(c *claimed) {
		c.Sequence.written = c.written
		c.Sequence.cutTo(c.pages, c.Sequence.length)
	})
	return nil
}

// over reports whether there is nothing to end: a zero Transaction was never begun.
func (t *Transaction) over() bool { return t == nil || t.cache == nil || t.ended }

// end ends the transaction. Its success settles who hands out pages.
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
