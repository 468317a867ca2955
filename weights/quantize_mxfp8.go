package weights

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// QuantizedRows is rows of x rounded to MXFP8, for [Matrix.ProductQuantized]. The zero value
// is ready for use. Its memory belongs to one device, grows as needed, and Free returns it.
// Only one goroutine may use it at a time.
type QuantizedRows struct {
	memory     hip.Buffer // of all three:
	values     hip.Ptr    // [rows, cols] float32: what the codes stand for
	codes      hip.Ptr    // [rows, cols] e4m3
	scales     hip.Ptr    // [rows, ceil(cols/32)] e8m0
	rows, cols int
}

// Reserve makes room for rows × cols values, so that Quantize of no more does not allocate.
// Running out of memory is [hip.ErrOutOfMemory].
func (q *QuantizedRows) Reserve(d hip.Device, rows, cols int) error {
	return q.memory.Grow(d, rows, 5*cols+ceilDiv(cols, 32))
}

// Quantize queues on d the rounding of rows rows of x, cols float32 each, 32 columns at a
// time:
//
//	scale    s = floor(log2(max |x|)) − 8, at least −127; stored as s + 127
//	code     e4m3(x · 2^−s): to nearest, ties to even, magnitudes above 448 to 448
//	value    code · 2^s, a float32, exactly
//
// This is the conversion of the OCP Microscaling Formats specification 1.0, section 6.3.
// Thirty-two zeros have the scale 0, which is 2^−127. With a NaN or an infinity among them
// 32 columns are NaN: their scale and all their codes are.
func (q *QuantizedRows) Quantize(d hip.Device, x hip.Ptr, rows, cols int) error {
	if err := q.Reserve(d, rows, cols); err != nil {
		return err
	}
	q.rows, q.cols = rows, cols
	n := int64(rows) * int64(cols)
	q.values = q.memory.Ptr()
	q.codes = q.values.Add(4 * n)
	q.scales = q.codes.Add(n)
	blocks := int64(rows) * int64(ceilDiv(cols, 32))
	return quantize.Launch(d, hip.Grid{Blocks: int((blocks + quantizeBlocks - 1) / quantizeBlocks)}, &quantizeMXFP8Args{
		X: x, Values: q.values, Codes: q.codes, Scales: q.scales, Blocks: blocks, Cols: int64(cols),
	})
}

// Rows returns the rounded rows for the arguments of a kernel: as float32, rows × cols, their
// codes and their scales. They are valid until the next Quantize, Reserve or Free.
func (q *QuantizedRows) Rows() (values, codes, scales hip.Ptr) { return q.values, q.codes, q.scales }

// Free returns the memory to d, after the work queued on it.
func (q *QuantizedRows) Free(d hip.Device) error {
	err := q.memory.Free(d)
	if err == nil {
		*q = QuantizedRows{}
	}
	return err
}

// quantizeBlocks is how many times 32 columns a block of the kernel rounds.
const quantizeBlocks = 8

type quantizeMXFP8Args struct {
	X      hip.Ptr // [rows, Cols] float32
	Values hip.Ptr // [rows, Cols] float32, written, and so are
	Codes  hip.Ptr // [rows, Cols] e4m3
	Scales hip.Ptr // [rows, ceil(Cols/32)] e8m0
	Blocks int64   // rows · ceil(Cols/32)
	Cols   int64
}

var quantize = hip.NewKernel("quantize_mxfp8", rowsSource()+quantizeMXFP8HIP, func(b *hip.Blocks, a *quantizeMXFP8Args) {
	cols, perRow := int(a.Cols), ceilDiv(int(a.Cols), 32)
	first, end := b.First*quantizeBlocks, min(b.End*quantizeBlocks, int(a.Blocks))
	scales := hip.Out[byte](b, a.Scales.Add(int64(first)), end-first)
	for block := first; block < end; block++ {
		column := block % perRow * 32
		at, n := int64(block/perRow*cols+column), min(32, cols-column)
		scales[block-first] = quantizeMXFP8(
			hip.Out[float32](b, a.Values.Add(4*at), n), hip.Out[byte](b, a.Codes.Add(at), n), hip.In[float32](b, a.X.Add(4*at), n))
	}
}).Block(32 * quantizeBlocks)

// quantizeMXFP8 rounds up to 32 values that share a scale, which it returns:
// [QuantizedRows.Quantize] has the rule.
func quantizeMXFP8(values []float32, codes []byte, x []float32) (scale byte) {
	largest := largestBits(x)
	if largest >= infinityBits {
		for i := range values {
			codes[i], values[i] = 0x7f, float32(math.NaN())
		}
		return 255
	}
	scale = byte(max(int(largest>>23)-8, 0))
	roundE4M3(codes, x, scale)
	s := valueOfE8M0(scale)
	for i, code := range codes {
		values[i] = e4m3[code] * s
	}
	return scale
}
