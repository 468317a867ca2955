package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

const (
	// gatherRows is how many rows of x are multiplied with a row of weights
	// while it is decoded, at most; they stay in a core's cache meanwhile.
	gatherRows = 64

	// runColumns is the output columns that are computed before they are stored:
	// many, as a product prefetches and blocks within its rows of weights.
	runColumns = 512
)

func (e *expertBlock) gateUp(with arithmetic) func(*hip.Blocks, *expertsArgs) {
	return func(b *hip.Blocks, a *expertsArgs) {
		w, out := with.open(b, a.Weights, a.Segments, a.In), int(a.Out)
		g := newGateUp(b, w, with, swiGLU{a.Alpha, a.Limit, a.Beta}, gatherRows, runColumns)
		eachExpertRun(b, a, int(a.Tile), w, func(expert, first, count, n int) []float32 {
			gate := expert*2*out + first
			return g.multiply(gate, gate+out, count, n)
		})
	}
}

func (e *expertBlock) down(with arithmetic) func(*hip.Blocks, *expertsArgs) {
	return func(b *hip.Blocks, a *expertsArgs) {
		y := hip.Scratch[float32](b, gatherRows*runColumns)
		w, out := with.open(b, a.Weights, a.Segments, a.In), int(a.Out)
		eachExpertRun(b, a, int(a.Tile), w, func(expert, first, count, n int) []float32 {
			w.Multiply(y, count, expert*out+first, count)
			return y
		})
	}
}

// eachExpertRun calls compute for runs of at most runColumns output columns of the
// blocks and every gathered set of up to gatherRows rows x whose pairs picked the
// block's expert. It returns rows × count values, for the columns from first,
// which are stored with their pairs.
func eachExpertRun(
	b *hip.Blocks, a *expertsArgs, tile int, w *weights.Rows,
	compute func(expert, first, count, n int) []float32,
) {
	pairs, experts, in, out := int(a.Pairs), int(a.Experts), int(a.In), int(a.Out)
	x := hip.In[float32](b, a.X, pairs/int(a.PairsPerX)*in)
	y := hip.Out[float32](b, a.Y, pairs*out)
	offsets := hip.In[int32](b, a.Offsets, experts+1)
	order := hip.In[int32](b, a.Order, pairs)
	active := hip.In[int32](b, a.Active, min(experts, pairs))
	active = active[:hip.In[int32](b, a.ActiveCount, 1)[0]]
	gathered := hip.Scratch[float32](b, min(pairs, gatherRows)*in)

	perExpert := tiles(out, tile)
	for block := b.First; block < b.End; {
		slot := block / perExpert
		if slot >= len(active) {
			return
		}
		expert := int(active[slot])
		firstTile, endTile := block-slot*perExpert, min(b.End-slot*perExpert, perExpert)
		end := min(endTile*tile, out)
		picked := order[offsets[expert]:offsets[expert+1]]
		for len(picked) > 0 {
			n := min(len(picked), gatherRows)
			for i, pair := range picked[:n] {
				row := int(pair / a.PairsPerX)
				copy(gathered[i*in:(i+1)*in], x[row*in:(row+1)*in])
			}
			w.Load(gathered[:n*in], n)
			for first := firstTile * tile; first < end; first += runColumns {
				count := min(runColumns, end-first)
				values := compute(expert, first, count, n)
				for i, pair := range picked[:n] {
					copy(y[int(pair)*out+first:], values[i*count:(i+1)*count])
				}
			}
			picked = picked[n:]
		}
		block = slot*perExpert + endTile
	}
}
