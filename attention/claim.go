package attention

import (
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Claim names the rows that a call will write in one sequence.
type Claim struct {
	// Sequence or BlockTable: exactly one of the two is set. BlockTable lists pages of the
	// cache that an engine hands out itself; it must not change until the transaction ends.
	Sequence   *Sequence
	BlockTable []int32
	// From and To bound the positions that the call writes for good, From … To−1: new ones,
	// and ones that it writes again.
	From, To int
	// Spare is how many positions from To on the call would also write if there is room.
	// Their rows are dropped when the transaction ends.
	Spare int
	// Layers is how many layers, from layer 0 on, hold keys at all positions of a BlockTable
	// before From. The others hold none there: their rows see what this transaction marks. 0
	// stands for all layers. A Sequence knows by itself what its layers hold.
	Layers int
}

// refuseClaim is the error of claim i.
func refuseClaim(i int, field string, got any, want string, err error) error {
	return &hip.InputError{Op: "attention: begin", Sequence: i + 1, Field: field, Got: got, Want: want, Err: err}
}

// owner returns who hands out the claim's pages.
func (c *Claim) owner() owner {
	if c.Sequence != nil {
		return ownerSequences
	}
	return ownerTables
}

// check looks at claim i alone, and at whether it is of the same kind as the first.
func (c *Cache) checkClaim(claims []Claim, i int) error {
	claim, limit := &claims[i], c.geometry.Rope.Positions
	switch s := claim.Sequence; {
	case s == nil && claim.BlockTable == nil:
		return refuseClaim(i, "Sequence", "nil, and BlockTable too", "one of them", nil)
	case s != nil && claim.BlockTable != nil:
		return refuseClaim(i, "Sequence", "given, and BlockTable too", "one of them", nil)
	case s != nil && claims[0].Sequence == nil:
		return refuseClaim(i, "Sequence", "given, where the first claim has a BlockTable", "Sequences or BlockTables, not both", nil)
	case s == nil && claims[0].Sequence != nil:
		return refuseClaim(i, "BlockTable", "given, where the first claim has a Sequence", "Sequences or BlockTables, not both", nil)
	case s != nil && s.cache != c:
		return refuseClaim(i, "Sequence", s.origin(), "one of this cache", nil)
	case claim.From < 0:
		return refuseClaim(i, "From", claim.From, "at least 0", nil)
	case claim.To < claim.From:
		return refuseClaim(i, "To", claim.To, fmt.Sprintf("at least From, %d", claim.From), nil)
	case claim.To > limit:
		return refuseClaim(i, "To", claim.To, fmt.Sprintf("at most %d, the positions that there are", limit), ErrPosition)
	case claim.Spare < 0:
		return refuseClaim(i, "Spare", claim.Spare, "at least 0", nil)
	case claim.Layers < 0 || claim.Layers > len(c.layers):
		return refuseClaim(i, "Layers", claim.Layers, fmt.Sprintf("0 to %d", len(c.layers)), nil)
	}
	return nil
}

// blocks returns the blocks first … end−1 that the claim writes for good, and the first
// block that its spare rows write alone.
func (c *Claim) blocks(size int) (first, end, spare int) {
	end = blocksFor(c.To, size)
	if c.From == c.To {
		return end, end, c.To / size
	}
	return c.From / size, end, end
}

// blocksFor is the number of blocks that n positions take.
func blocksFor(n, size int) int { return n/size + min(n%size, 1) }

// tables checks the block tables of one call: a page that is written stands in one place.
type tables struct {
	cache   *Cache
	writers map[int32]tableEntry // by page
}

// tableEntry is BlockTable[block] of claim i.
type tableEntry struct{ claim, block int }

// check refuses claim i unless its table has pages of the cache for all positions before
// To, and no other block writes the pages that it writes. What other sequences read is the
// engine's business.
func (t *tables) check(i int, c *Claim) error {
	first, end, _ := c.blocks(t.cache.geometry.BlockSize)
	if n := len(c.BlockTable); n < end {
		return refuseClaim(i, "len(BlockTable)", n, fmt.Sprintf("at least %d, for position %d", end, c.To-1), nil)
	}
	for block, page := range c.BlockTable[:end] {
		if !t.has(page) {
			return refuseClaim(i, fmt.Sprintf("BlockTable[%d]", block), page, fmt.Sprintf("a page, 0 to %d", t.cache.Pages()-1), nil)
		}
	}
	for block := first; block < end; block++ {
		if at, by, is := t.write(i, c.BlockTable, first, block); !is {
			want := fmt.Sprintf("a page of its own: rows are written to it as BlockTable[%d] of Sequences[%d]", by.block, by.claim)
			return refuseClaim(i, fmt.Sprintf("BlockTable[%d]", at), c.BlockTable[at], want, nil)
		}
	}
	return nil
}

// reach returns the block up to which, from first on and up to end, claim i can write spare
// rows, and takes those blocks' pages for it.
func (t *tables) reach(i int, c *Claim, first, end int) int {
	for block := first; block < end; block++ {
		if block >= len(c.BlockTable) || !t.has(c.BlockTable[block]) {
			return block
		}
		if _, _, is := t.write(i, c.BlockTable, first, block); !is {
			return block
		}
	}
	return end
}

func (t *tables) has(page int32) bool { return page >= 0 && int(page) < t.cache.Pages() }

// write makes claim i the writer of a block's page, unless rows are written to the page as
// another block, or it stands before first, where it is read. The entry that conflicts is
// then that of the claim's table at, with what is written.
func (t *tables) write(i int, table []int32, first, block int) (at int, by tableEntry, ok bool) {
	page := table[block]
	if by, is := t.writers[page]; is {
		return block, by, false
	}
	if read := slices.Index(table[:first], page); read >= 0 {
		return read, tableEntry{i, block}, false
	}
	t.writers[page] = tableEntry{i, block}
	return block, tableEntry{}, true
}
