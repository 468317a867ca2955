package moe

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// gateUpSwiGLU computes the first half of an expert that takes every row:
//
//	y[row][j] = act(w[j] · x[row], w[Out+j] · x[row])       j = 0 … Out−1
//
// one tile of columns per block, each product rounded to float32 before it is
// activated. The second half is [weights.Matrix.Product].
// gateUpSwiGLUOne is the same for one row.
var (
	gateUpSwiGLU    = hip.NewKernel("gate_up_swiglu", gateUpSwiGLUFewSource(), gateUpSwiGLUTwin).Fast(0, gateUpSwiGLUHost)
	gateUpSwiGLUOne = hip.NewKernel("gate_up_swiglu_one", gateUpSwiGLUFewSource(), gateUpSwiGLUTwin).Fast(0, gateUpSwiGLUHost)
)

type gateUpSwiGLUArgs struct {
	X        hip.Ptr // [Rows, In] float32
	Y        hip.Ptr // [Rows, Out] float32, written
	Weights  hip.Ptr // [Segments] weights.Segment
	Alpha    float64
	Limit    float64
	Beta     float64
	Segments int32
	Rows     int32
	In, Out  int32
}

func launchGateUpSwiGLU(d hip.Device, w *weights.Matrix, a *gateUpSwiGLUArgs) error {
	a.Weights, a.Segments = w.Table(), int32(len(w.Segments))
	if a.Rows >= tiledRows && w.Tiled(d, a.X) {
		return launchGateUpSwiGLUTiled(d, w, a)
	}
	k := gateUpSwiGLU
	if a.Rows == 1 {
		k = gateUpSwiGLUOne
	}
	return k.Launch(d, hip.Grid{
		Blocks:    tiles(int(a.Out), expertTile),
		Threads:   128,
		BlockCost: expertTile * 2 * w.RowBytes(),
	}, a)
}

func gateUpSwiGLUTwin(b *hip.Blocks, a *gateUpSwiGLUArgs) {
	gateUpColumns(b, a, b.First*expertTile, b.End*expertTile, definition)
}

func gateUpSwiGLUHost(b *hip.Blocks, a *gateUpSwiGLUArgs) {
	gateUpColumns(b, a, b.First*expertTile, b.End*expertTile, host)
}

// gateUpColumns computes the columns from start to end, of which there may be fewer.
func gateUpColumns(b *hip.Blocks, a *gateUpSwiGLUArgs, start, end int, with arithmetic) {
	rows, in, out := int(a.Rows), int(a.In), int(a.Out)
	x, y := hip.In[float32](b, a.X, rows*in), hip.Out[float32](b, a.Y, rows*out)
	w := weights.OpenRows(b, a.Weights, int(a.Segments), in)
	g := newGateUp(b, with, swiGLU{a.Alpha, a.Limit, a.Beta}, min(rows, gatherRows), runColumns)
	end = min(end, out)
	for row := 0; row < rows; row += gatherRows {
		n := min(gatherRows, rows-row)
		operand := with.prepare(w, x[row*in:(row+n)*in], n)
		for first := start; first < end; first += runColumns {
			count := min(runColumns, end-first)
			values := g.multiply(w, first, out+first, count, operand)
			for i := range n {
				copy(y[(row+i)*out+first:], values[i*count:(i+1)*count])
			}
		}
	}
}
