package attention

import (
	"fmt"
	"math"
)

// Geometry is the shape of one attention layer. It is plain data.
//
// The fused projection of a row holds, in this column order,
//
//	q        Heads × HeadDim
//	k        KVHeads × HeadDim
//	v        KVHeads × HeadDim
//	index_q  KVHeads × IndexDim        an index head for each KV head
//	index_k  IndexDim                  shared by the index heads
//
// KV head g serves the query heads g·Heads/KVHeads … (g+1)·Heads/KVHeads − 1,
// over the blocks that index head g selects.
type Geometry struct {
	Heads    int // query heads
	KVHeads  int // key and value heads, a divisor of Heads
	HeadDim  int
	IndexDim int

	BlockSize   int // positions per block of the selection and per cache page
	TopkBlocks  int // blocks that a query attends to, the forced ones included
	InitBlocks  int // forced: the first blocks of the sequence
	LocalBlocks int // forced: the last blocks up to the query's own

	Eps  float64 // of the norms of q, k, index_q and index_k
	Rope Rope    // Dim is the rotated width of all four
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
	size("IndexDim", g.IndexDim, 1)
	size("BlockSize", g.BlockSize, 1)
	size("TopkBlocks", g.TopkBlocks, 1)
	size("InitBlocks", g.InitBlocks, 0)
	size("LocalBlocks", g.LocalBlocks, 0)
	if g.KVHeads > 0 {
		refuse(g.Heads%g.KVHeads != 0, "Heads", g.Heads, "a multiple of KVHeads")
	}
	refuse(!(g.Eps >= 0) || math.IsInf(g.Eps, 1), "Eps", g.Eps, "a finite number, at least 0")
	g.Rope.check(refuse, min(g.HeadDim, g.IndexDim))
	return p.err()
}

// Columns returns the width of the fused projection of a row.
func (g *Geometry) Columns() int {
	return (g.Heads+2*g.KVHeads)*g.HeadDim + (g.KVHeads+1)*g.IndexDim
}

// indexQColumn is the column at which index_q starts.
func (g *Geometry) indexQColumn() int { return (g.Heads + 2*g.KVHeads) * g.HeadDim }
