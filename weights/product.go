package weights

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// product computes y = x · wᵀ, in float32 as [Rows.Multiply64] defines it; productOne
// is the same for one row of x.
var (
	product    = hip.NewKernel("product", productFewSource(), productTwin).Fast(0, productHost)
	productOne = hip.NewKernel("product_one", productFewSource(), productTwin).Fast(0, productHost)
)

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
// overlap. No row of y depends on another row of x, and on how many there are only
// by rounding (see [Rows.Multiply]), as long as float32 products of the stored
// values neither overflow nor underflow. On a GPU, more than 4 rows are multiplied
// with two bfloat16 for each x, which leave out |x| · 2^−18: see [TiledError].
func (m *Matrix) Product(d hip.Device, y, x hip.Ptr, rows int) error {
	if rows < 0 || rows > math.MaxInt32 {
		return &MatrixError{-1, "rows of x", rows, "0 to 2^31-1"}
	}
	if rows == 0 {
		return nil
	}
	if t := m.tilingFor(d, x, rows); t != nil {
		return m.productTiled(d, t, y, x, rows)
	}
	grid := hip.Grid{Blocks: ceilDiv(m.Rows, productTile), Threads: 128, BlockCost: productTile * m.RowBytes()}
	k := product
	if rows == 1 {
		k = productOne
	}
	return k.Launch(d, grid, &productArgs{
		X: x, Y: y, Weights: m.table, Segments: int32(len(m.Segments)),
		Rows: int32(rows), Out: int32(m.Rows), In: int32(m.Cols),
	})
}

func productTwin(b *hip.Blocks, a *productArgs) {
	multiplyColumns(b, a, b.First*productTile, b.End*productTile, (*Rows).Plain, (*Rows).Multiply64)
}

func productHost(b *hip.Blocks, a *productArgs) {
	multiplyColumns(b, a, b.First*productTile, b.End*productTile, (*Rows).Prepare, (*Rows).Multiply)
}

// multiplyColumns multiplies with the rows of weights from first to end, of which there
// may be fewer, at once.
func multiplyColumns(
	b *hip.Blocks, a *productArgs, first, end int,
	prepare func(r *Rows, x []float32, n int) *Operand, multiply func(r *Rows, y []float32, yStride, first, count int, x *Operand),
) {
	n, in, out := int(a.Rows), int(a.In), int(a.Out)
	if end = min(end, out); first >= end {
		return
	}
	w := OpenRows(b, a.Weights, int(a.Segments), in)
	x := hip.Keep(b, func() *Operand { return prepare(w, hip.In[float32](b, a.X, n*in), n) })
	y := hip.Out[float32](b, a.Y, n*out)
	multiply(w, y[first:], out, first, end-first, x)
}
