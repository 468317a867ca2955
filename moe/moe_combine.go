package moe

import "github.com/drafthead/drafthead/hip"

// combine adds up the parts of a row. One block does one tile of columns of one row:
//
//	routed = Σ_k w[row][k] · y[row·TopK + k]       k ascending, of experts held
//	total  = routed + shared[row]
//	hidden = residual[row] + total
//
// in float64; hidden, routed and total are each rounded once, from the unrounded sums. A
// pick whose expert is not held is left out, and its row of y is not read.
var combine = hip.NewKernel("moe_combine",
	hip.Define("combineThreads", combineThreads)+hip.Define("combineTile", combineTile)+combineHIP, combineOf[float64]).
	Fast(0, combineOf[float32]).Block(combineThreads)

type combineArgs struct {
	Hidden   hip.Ptr // [Rows, Cols] float32, written; may be Residual
	Residual hip.Ptr // [Rows, Cols] float32; optional
	Y        hip.Ptr // [Rows·TopK, Cols] float32; none with TopK 0
	Weights  hip.Ptr // [Rows, TopK] float32; none with TopK 0
	IDs      hip.Ptr // [Rows, TopK] int32; none if every expert is held
	Shared   hip.Ptr // [Rows, Cols] float32; optional
	Routed   hip.Ptr // [Rows, Cols] float32, written; optional
	Total    hip.Ptr // [Rows, Cols] float32, written; optional
	Rows     int64
	TopK     int32
	Cols     int32
	First    int32 // the first expert held, if there are IDs
	Held     int32 // how many are held, if there are IDs
}

const (
	combineThreads = 256
	combineTile    = 256 // columns of one block
)

func launchCombine(d hip.Device, a *combineArgs) error {
	return combine.Launch(d, hip.Grid{
		Blocks:    int(a.Rows) * tiles(int(a.Cols), combineTile),
		BlockCost: 4 * min(combineTile, int(a.Cols)) * (int(a.TopK) + 3),
	}, a)
}

// combineOf sums in T: in float64 it is the definition.
func combineOf[T float32 | float64](b *hip.Blocks, a *combineArgs) {
	cols, k := int(a.Cols), int(a.TopK)
	n := int(a.Rows) * cols
	hidden, residual := hip.Out[float32](b, a.Hidden, n), hip.In[float32](b, a.Residual, n)
	y, w := hip.In[float32](b, a.Y, n*k), hip.In[float32](b, a.Weights, int(a.Rows)*k)
	ids, shared := hip.In[int32](b, a.IDs, int(a.Rows)*k), hip.In[float32](b, a.Shared, n)
	routed, total := hip.Out[float32](b, a.Routed, n), hip.Out[float32](b, a.Total, n)
	sum := hip.Scratch[T](b, min(combineTile, cols))
	perRow := tiles(cols, combineTile)
	for block := b.First; block < b.End; block++ {
		row, first := block/perRow, block%perRow*combineTile
		at, count := row*cols+first, min(combineTile, cols-first)
		sum := sum[:count]
		clear(sum)
		for pair := row * k; pair < (row+1)*k; pair++ {
			if ids == nil || uint32(ids[pair]-a.First) < uint32(a.Held) {
				addScaled(sum, T(w[pair]), y[pair*cols+first:][:count])
			}
		}
		store(routed, at, sum)
		if shared != nil {
			addScaled(sum, 1, shared[at:][:count])
		}
		store(total, at, sum)
		if residual != nil {
			addScaled(sum, 1, residual[at:][:count])
		}
		store(hidden, at, sum)
	}
}

// addScaled adds scale · x, of as many values as sum.
func addScaled[T float32 | float64](sum []T, scale T, x []float32) {
	for i, v := range x[:len(sum)] {
		sum[i] += scale * T(v)
	}
}

// store rounds sum to float32, from to[at] on; to may be nil.
func store[T float32 | float64](to []float32, at int, sum []T) {
	if to == nil {
		return
	}
	to = to[at:][:len(sum)]
	for i, v := range sum {
		to[i] = float32(v)
	}
}
