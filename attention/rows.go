package attention

import "github.com/drafthead/drafthead/hip"

// batchSize is the extent of a [Batch] in a kernel's arguments.
type batchSize struct {
	rows, sequences, tables, presence int32
}

func (b *Batch) size() batchSize {
	return batchSize{int32(b.rows), int32(b.sequences), int32(b.tableEntries), int32(b.presenceWords)}
}

// rowsView is a [Batch] as a CPU kernel reads it.
type rowsView struct {
	positions, sequences, slots   []int32
	tableOffsets, presenceOffsets []int32
	tables                        []int32
	presence                      []uint32
}

func viewRows(b *hip.Blocks, p hip.Ptr, n batchSize) rowsView {
	part := func(n int32) []int32 {
		words := hip.In[int32](b, p, int(n))
		p = p.Add(4 * int64(n))
		return words
	}
	return rowsView{
		positions: part(n.rows), sequences: part(n.rows), slots: part(n.rows),
		tableOffsets: part(n.sequences), presenceOffsets: part(n.sequences),
		tables:   part(n.tables),
		presence: hip.In[uint32](b, p, int(n.presence)),
	}
}

// ceilDiv returns how many parts of the given size n things take.
func ceilDiv(n, size int) int { return n/size + min(n%size, 1) }

// rowContext gives the keys that a row may attend to: those present at 0 … position.
type rowContext struct {
	position int
	table    []int32  // from the sequence's first block on
	presence []uint32 // nil: no holes
}

func (v *rowsView) context(row int) rowContext {
	s := v.sequences[row]
	c := rowContext{position: int(v.positions[row]), table: v.tables[v.tableOffsets[s]:]}
	if at := v.presenceOffsets[s]; at >= 0 {
		c.presence = v.presence[at:][:wordsFor(c.position+1)]
	}
	return c
}

// keys returns how many keys of the block are not after the row; they are the
// slots 0 … n−1 of the block, of which present reports the ones that exist.
func (c *rowContext) keys(block, size int) int {
	return max(0, min(size, c.position+1-block*size))
}

// present reports whether there is a key at position j, which is not after the row.
func (c *rowContext) present(j int) bool {
	return c.presence == nil || c.presence[j/32]>>(j%32)&1 != 0
}

// visible reports whether the block holds a key that the row may attend to.
func (c *rowContext) visible(block, size int) bool {
	n := c.keys(block, size)
	if c.presence == nil {
		return n > 0
	}
	return anyBit(c.presence, block*size, block*size+n)
}

// run returns the first run of slots from … to−1, within at … end−1, that hold
// keys, where first is the position of slot 0; from = to = end if there is none.
func (c *rowContext) run(first, at, end int) (from, to int) {
	if c.presence == nil {
		return at, end
	}
	for from = at; from < end && !c.present(first+from); from++ {
	}
	for to = from; to < end && c.present(first+to); to++ {
	}
	return from, to
}
