package moe

import "github.com/drafthead/drafthead/hip"

// combine adds up the parts of a row. One block does one tile of columns of one row:
//
//	routed = Σ_k w[row][k] · y[row·TopK + k]       k ascending
//	total  = routed + shared[row]
//	hidden = residual[row] + total
//
// in float64; hidden, routed and total are each rounded once, from the unrounded sums.
// Routed and Total are optional.
var combine = hip.NewKernel("moe_combine",
	hip.Define("combineThreads", combineThreads)+hip.Define("combineTile", combineTile)+combineHIP, combineTwin).Fast(0, combineHost).Block(combineThreads)

type combineArgs struct {
	Hidden   hip.Ptr // [Rows, Cols] float32, written; may be Residual
	Residual hip.Ptr // [Rows, Cols] float32
	Y        hip.Ptr // [Rows·TopK, Cols] float32; none with TopK 0
	Weights  hip.Ptr // [Rows, TopK] float32; none with TopK 0
	Shared   hip.Ptr // [Rows, Cols] float32
	Routed   hip.Ptr // [Rows, Cols] float32, written; optional
	Total    hip.Ptr // [Rows, Cols] float32, written; optional
	Rows     int64
	TopK     int32
	Cols     int32
}

const (
	combineThreads = 256
	combineTile    = 1024 // columns of one block
)

func launchCombine(d hip.Device, a *combineArgs) error {
	return combine.Launch(d, hip.Grid{
		Blocks:    int(a.Rows) * tiles(int(a.Cols), combineTile),
		BlockCost: 4 * min(combineTile, int(a.Cols)) * (int(a.TopK) + 3),
	}, a)
}

func combineTwin(b *hip.Blocks, a *combineArgs) {
	eachSum(b, a, func(s *sums) {
		for c := range s.hidden {
			routed := 0.0
			for k, w := range s.weights {
				routed += float64(w) * float64(s.y[k*s.stride+c])
			}
			total := routed + float64(s.shared[c])
			s.store(c, float32(routed), float32(total), float32(float64(s.residual[c])+total))
		}
	})
}

// combineHost sums in float32.
func combineHost(b *hip.Blocks, a *combineArgs) {
	eachSum(b, a, func(s *sums) {
		for c := range s.hidden {
			routed := float32(0)
			for k, w := range s.weights {
				routed += w * s.y[k*s.stride+c]
			}
			total := routed + s.shared[c]
			s.store(c, routed, total, s.residual[c]+total)
		}
	})
}

// sums is one tile of a row.
type sums struct {
	hidden, residual, shared []float32 // [columns of the tile]
	routed, total            []float32 // the same, or nil
	weights                  []float32 // [TopK]
	y                        []float32 // column c of pick k at k·stride + c
	stride                   int
}

func (s *sums) store(c int, routed, total, hidden float32) {
	if s.routed != nil {
		s.routed[c] = routed
	}
	if s.total != nil {
		s.total[c] = total
	}
	s.hidden[c] = hidden
}

func eachSum(b *hip.Blocks, a *combineArgs, add func(*sums)) {
	cols, k := int(a.Cols), int(a.TopK)
	n := int(a.Rows) * cols
	hidden, residual := hip.Out[float32](b, a.Hidden, n), hip.In[float32](b, a.Residual, n)
	y, w := hip.In[float32](b, a.Y, n*k), hip.In[float32](b, a.Weights, int(a.Rows)*k)
	shared := hip.In[float32](b, a.Shared, n)
	routed, total := hip.Out[float32](b, a.Routed, n), hip.Out[float32](b, a.Total, n)
	perRow := tiles(cols, combineTile)
	for block := b.First; block < b.End; block++ {
		row, first := block/perRow, block%perRow*combineTile
		at := row*cols + first
		end := at + min(combineTile, cols-first)
		s := sums{
			hidden: hidden[at:end], residual: residual[at:end], shared: shared[at:end],
			weights: w[row*k : (row+1)*k], y: y[row*k*cols : (row+1)*k*cols][min(first, k*cols):], stride: cols,
		}
		if routed != nil {
			s.routed = routed[at:end]
		}
		if total != nil {
			s.total = total[at:end]
		}
		add(&s)
	}
}
