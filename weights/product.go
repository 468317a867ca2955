package weights

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// product computes y = x · wᵀ, in float32 as [Rows.Multiply64] defines it.
var product = hip.NewKernel("product", MultiplySource()+productHIP, productTwin).Fast(0, productHost)

type productArgs struct {
	X, Y     hip.Ptr // [Rows, In], [Rows, Out] float32
	Weights  hip.Ptr // [Segments] Segment
	Segments int32
	Rows     int32
	Out, In  int32
}

// productTile is the rows of weights that one block multiplies.
const productTile = 16

// Product multiplies rows rows of x, each m.Cols float32, with every row of m:
// y[i][j] = Σ_c m[j][c] · x[i][c], rows × m.Rows float32. x and y must not
// overlap. No row of y depends on another row of x, nor on how many there are:
// on one CPU device it is the same bit for bit, as long as float32 products of
// the stored values neither overflow nor underflow.
func (m *Matrix) Product(d hip.Device, y, x hip.Ptr, rows int) error {
	if rows < 0 || rows > math.MaxInt32 {
		return &MatrixError{-1, "rows of x", rows, "0 to 2^31-1"}
	}
	if rows == 0 {
		return nil
	}
	grid := hip.Grid{Blocks: ceilDiv(m.Rows, productTile), Threads: 128, BlockCost: productTile * m.RowBytes()}
	return product.Launch(d, grid, &productArgs{
		X: x, Y: y, Weights: m.table, Segments: int32(len(m.Segments)),
		Rows: int32(rows), Out: int32(m.Rows), In: int32(m.Cols),
	})
}

func productTwin(b *hip.Blocks, a *productArgs) { multiplyTiles(b, a, (*Rows).Multiply64) }
func productHost(b *hip.Blocks, a *productArgs) { multiplyTiles(b, a, (*Rows).Multiply) }

// multiplyTiles multiplies the rows of weights of all its blocks at once.
func multiplyTiles(b *hip.Blocks, a *productArgs, multiply func(r *Rows, y []float32, yStride, first, count int, x []float32, n int)) {
	n, in, out := int(a.Rows), int(a.In), int(a.Out)
	x, y := hip.In[float32](b, a.X, n*in), hip.Out[float32](b, a.Y, n*out)
	first, end := b.First*productTile, min(b.End*productTile, out)
	multiply(OpenRows(b, a.Weights, int(a.Segments), in), y[first:], out, first, end-first, x, n)
}
