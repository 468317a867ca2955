package weights

import (
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Quantizes reports whether a product of m with rows rows of x rounds them, if a asks for
// it: some of its weights are MXFP8, and there are at least 5 rows. With fewer a product
// waits for weights, and has nothing to gain. Whether it rounds depends on no device.
func (m *Matrix) Quantizes(a hip.Activations, rows int) bool {
	return a == hip.ActivationsMXFP8 && rows >= manyRows &&
		slices.ContainsFunc(m.segments, func(s Segment) bool { return s.format == MXFP8 })
}

// ProductQuantized is [Matrix.Product] with rows of x that q holds rounded: weights stored as
// MXFP8 multiply those, and weights of other formats x itself. The rows of q are those of x,
// m.Cols values each; otherwise it is a [hip.InputError]. x, q and y must not overlap.
//
// A rounded x is off by up to 1/16 of itself. All devices round alike, and multiply and sum
// what is rounded as Product does. An AMD GPU of CDNA 4 multiplies aligned MXFP8 weights and
// the rounded x as they are stored.
func (m *Matrix) ProductQuantized(d hip.Device, y, x hip.Ptr, q *QuantizedRows) error {
	if q.cols != m.Cols {
		return &hip.InputError{Op: "weights: product", Field: "q", Got: fmt.Sprintf("rows of %d", q.cols), Want: fmt.Sprintf("rows of %d, as the matrix has columns", m.Cols)}
	}
	if q.rows == 0 {
		return nil
	}
	work := productWork{m: m, d: d, x: x, rows: q.rows}
	k := hip.Choose(productQuantized, func(p *productQuantizedKernel) bool {
		of := productKernel{productBlock: p.productBlock}
		return work.served(&of) && (p.on < tileable || q.values%16 == 0)
	})
	return k.Launch(d, k.grid(m, q.rows, k.tile), &productQuantizedArgs{
		X: x, Values: q.values, Codes: q.codes, Scales: q.scales, Y: y, Weights: m.table, Segments: int32(len(m.segments)),
		Rows: int32(q.rows), Out: int32(m.Rows), In: int32(m.Cols),
	})
}

type productQuantizedArgs struct {
	X        hip.Ptr // [Rows, In] float32
	Values   hip.Ptr // [Rows, In] float32, and the next two: as quantize_mxfp8 wrote them
	Codes    hip.Ptr
	Scales   hip.Ptr
	Y        hip.Ptr // [Rows, Out] float32
	Weights  hip.Ptr // [Segments] Segment
	Segments int32
	Rows     int32
	Out, In  int32
}

// productQuantized has the kernels of [Matrix.ProductQuantized], as product has those of
// [Matrix.Product]. The first serves any device and number of rows.
var productQuantized = []productQuantizedKernel{
	productQuantizedOf("product_mxfp8", "productQuantizedRows<1>", 0, productBlock{from: manyRows, x: 1}),
	productQuantizedOf("product_mxfp8_tiled_16", "productQuantizedTiles<16>", 2, productBlock{from: manyRows, on: tileable, x: 16}),
	productQuantizedOf("product_mxfp8_tiled_32", "productQuantizedTiles<32>", 2, productBlock{from: 17, on: tileable, x: 32}),
	productQuantizedOf("product_mxfp8_tiled_64", "productQuantizedTiles<64>", 2, productBlock{from: 33, on: tileableFull, x: 64}),
}

type productQuantizedKernel struct {
	*hip.KernelOf[productQuantizedArgs]
	productBlock
}

func productQuantizedOf(name, template string, resident int, block productBlock) productQuantizedKernel {
	tile, threads, maxError := TileOf(block.x)
	block.tile = tile
	k := hip.NewKernel(name, KernelSource()+productMXFP8HIP, block.quantizedTwin).
		Instance(template, threads, resident, block.String()).
		Fast(maxError, block.quantizedHost)
	return productQuantizedKernel{k, block}
}

func (p *productBlock) quantizedTwin(b *hip.Blocks, a *productQuantizedArgs) {
	p.multiplyQuantized(b, a, true)
}
func (p *productBlock) quantizedHost(b *hip.Blocks, a *productQuantizedArgs) {
	p.multiplyQuantized(b, a, false)
}

// multiplyQuantized does all blocks that share a tile of weights at once, as multiply does.
// Both sides of a mixed matrix hold their rows of x in a form of their own.
func (p *productBlock) multiplyQuantized(b *hip.Blocks, a *productQuantizedArgs, exact bool) {
	n, in, out, parts := int(a.Rows), int(a.In), int(a.Out), p.parts(int(a.Rows))
	first, end := ceilDiv(b.First, parts)*p.tile, min(ceilDiv(b.End, parts)*p.tile, out)
	if first >= end {
		return
	}
	plain := OpenRows(b, a.Weights, int(a.Segments), in, exact)
	rounded := OpenRows(b, a.Weights, int(a.Segments), in, exact)
	sides := []*Rows{rounded, plain}
	of := share(b, func(b *hip.Blocks) []*operand {
		x := []*operand{rounded.with(b).newOperand(source{x: hip.In[float32](b, a.Values, n*in)}, n)}
		if slices.ContainsFunc(plain.segments, func(s Segment) bool { return s.format != MXFP8 }) {
			x = append(x, plain.with(b).newOperand(source{x: hip.In[float32](b, a.X, n*in)}, n))
		}
		return x
	}, func(i int) *Rows { return sides[i] })
	for i, x := range of {
		sides[i].x = x
	}
	y := hip.Out[float32](b, a.Y, n*out)
	for row := first; row < end; {
		s := plain.segmentOf(row)
		count := min(end, int(s.first)+int(s.rows)) - row
		if count <= 0 {
			panic(&outsideError{fmt.Sprintf("row %d", row)})
		}
		if s.format == MXFP8 {
			rounded.Multiply(y[row:], out, row, count)
		} else {
			plain.Multiply(y[row:], out, row, count)
		}
		row += count
	}
}
