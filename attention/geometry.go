package attention

import (
	"fmt"
	"math"
)

// Geometry is the shape of one attention layer. It is plain data. Where IndexDim is 0,
// attention is dense: each query attends to every key that it sees, nothing is scored or
// selected, and the three numbers of blocks are 0.
//
// The fused projection of a row holds, in this column order,
//
//	q        Heads × HeadDim
//	k        KVHeads × HeadDim
//	v        KVHeads × HeadDim
//	index_q  KVHeads × IndexDim        an index head for each KV head; none where dense
//	index_k  IndexDim                  shared by the index heads
//
// KV head g serves the query heads g·Heads/KVHeads … (g+1)·Heads/KVHeads − 1,
// over the blocks that index head g selects.
type Geometry struct {
	Heads    int // query heads
	KVHeads  int // key and value heads, a divisor of Heads
	HeadDim  int
	IndexDim int // 0: dense

	BlockSize   int // positions per block of the selection, and per cache page
	TopkBlocks  int // blocks that a query attends to, the forced ones included
	InitBlocks  int // forced: the first blocks of the sequence
	LocalBlocks int // forced: the last blocks up to the query's own

	Eps  float64 // of the norms of q, k, index_q and index_k
	Rope Rope    // the same for all four
}

// maxWidth bounds every field, so that products of a few of them fit an int64
// and single ones an int32.
const maxWidth = 1 << 20

// check returns all that is wrong with g: a [hip.InputError] for each field.
func (g *Geometry) check() error {
	p := problems{op: "geometry"}
	refuse := p.refuse
	size := func(field string, n, least int) {
		refuse(n < least || n > maxWidth, field, n, fmt.Sprintf("%d to %d", least, maxWidth))
	}
	size("Heads", g.Heads, 1)
	size("KVHeads", g.KVHeads, 1)
	size("HeadDim", g.HeadDim, 1)
	size("IndexDim", g.IndexDim, 0)
	size("BlockSize", g.BlockSize, 1)
	if g.dense() {
		refuse(g.TopkBlocks != 0, "TopkBlocks", g.TopkBlocks, "0, since IndexDim is 0")
		refuse(g.InitBlocks != 0, "InitBlocks", g.InitBlocks, "0, since IndexDim is 0")
		refuse(g.LocalBlocks != 0, "LocalBlocks", g.LocalBlocks, "0, since IndexDim is 0")
	} else {
		size("TopkBlocks", g.TopkBlocks, 1)
		size("InitBlocks", g.InitBlocks, 0)
		size("LocalBlocks", g.LocalBlocks, 0)
	}
	if g.KVHeads > 0 {
		refuse(g.Heads%g.KVHeads != 0, "Heads", g.Heads, "a multiple of KVHeads")
	}
	refuse(!(g.Eps >= 0) || math.IsInf(g.Eps, 1), "Eps", g.Eps, "a finite number, at least 0")
	width := g.HeadDim
	if !g.dense() {
		width = min(width, g.IndexDim)
	}
	g.Rope.check(refuse, width)
	return p.err()
}

// dense reports whether queries attend to all blocks.
func (g *Geometry) dense() bool { return g.IndexDim == 0 }

// attended bounds the blocks that a query attends to, in a sequence of so many.
func (g *Geometry) attended(blocks int) int {
	if g.dense() {
		return blocks
	}
	return g.TopkBlocks
}

// Columns returns the width of the fused projection of a row.
func (g *Geometry) Columns() int {
	return (g.Heads+2*g.KVHeads)*g.HeadDim + (g.KVHeads+1)*g.IndexDim // index_q and index_k are empty where dense
}

// indexQColumn is the column at which index_q starts.
func (g *Geometry) indexQColumn() int { return (g.Heads + 2*g.KVHeads) * g.HeadDim }
