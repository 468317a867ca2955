package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// runValues is how many results are computed before they are stored, and runColumns of how
// many output columns at most: many, as a product prefetches and blocks within its rows of
// weights.
const runValues, runColumns, leastColumns = 1 << 16, 512, 32

// columnsAtOnce is how many output columns of n rows are computed before they are stored.
func columnsAtOnce(n int) int {
	return min(max(runValues/max(n, 1)/leastColumns*leastColumns, leastColumns), runColumns)
}

func (e *expertBlock) gateUp(with arithmetic) func(*hip.Blocks, *expertsArgs) {
	return func(b *hip.Blocks, a *expertsArgs) {
		w, out := with.open(b, a.Weights, a.Segments, a.In), int(a.Out)
		g := newGateUp(b, w, with, swiGLU{a.Alpha, a.Limit, a.Beta})
		eachExpertRun(b, a, int(a.Tile), w, func(expert, first, count, n int) []float32 {
			gate := expert*2*out + first
			return g.multiply(gate, gate+out, count, n)
		})
	}
}

func (e *expertBlock) down(with arithmetic) func(*hip.Blocks, *expertsArgs) {
	return func(b *hip.Blocks, a *expertsArgs) {
		var buffer []float32
		w, out := with.open(b, a.Weights, a.Segments, a.In), int(a.Out)
		eachExpertRun(b, a, int(a.Tile), w, func(expert, first, count, n int) []float32 {
			y := grow(b, &buffer, n*count)
			w.Multiply(y, count, expert*out+first, count)
			return y
		})
	}
}

// eachExpertRun calls compute for runs of output columns of the blocks and the rows x of
// all pairs that picked the block's expert, which are loaded. It returns rows × count values,
// for the columns from first, which are stored with their pairs.
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
	picked := func(slot int) []int32 { return order[offsets[active[slot]]:offsets[active[slot]+1]] }

	perExpert := tiles(out, tile)
	if b.First/perExpert >= len(active) {
		return
	}
	w.SharePicked(x, a.PairsPerX, len(active), picked)
	for block := b.First; block < b.End; {
		slot := block / perExpert
		if slot >= len(active) {
			return
		}
		firstTile, endTile := block-slot*perExpert, min(b.End-slot*perExpert, perExpert)
		end := min(endTile*tile, out)
		of := picked(slot)
		w.Use(slot)
		for first := firstTile * tile; first < end; {
			count := min(columnsAtOnce(len(of)), end-first)
			values := compute(int(active[slot]), first, count, len(of))
			for i, pair := range of {
				copy(y[int(pair)*out+first:], values[i*count:(i+1)*count])
			}
			first += count
		}
		block = slot*perExpert + endTile
	}
}

// grow returns n values in buf, which it makes larger where it has to.
func grow(b *hip.Blocks, buf *[]float32, n int) []float32 {
	if n > len(*buf) {
		*buf = hip.Scratch[float32](b, n)
	}
	return (*buf)[:n]
}
