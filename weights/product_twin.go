package weights

import "github.com/drafthead/drafthead/hip"

func (p *productBlock) twin(b *hip.Blocks, a *productArgs) { p.multiply(b, a, true) }
func (p *productBlock) host(b *hip.Blocks, a *productArgs) { p.multiply(b, a, false) }

// multiply does all blocks that share a tile of weights at once: they have neighboring
// numbers, and the first does the work of all.
func (p *productBlock) multiply(b *hip.Blocks, a *productArgs, exact bool) {
	n, in, out, parts, tile := int(a.Rows), int(a.In), int(a.Out), p.parts(int(a.Rows)), int(a.Tile)
	first, end := ceilDiv(b.First, parts)*tile, min(ceilDiv(b.End, parts)*tile, out)
	if first >= end {
		return
	}
	w := OpenRows(b, a.Weights, int(a.Segments), in, exact)
	w.Share(hip.In[float32](b, a.X, n*in), n)
	y := hip.Out[float32](b, a.Y, n*out)
	w.Multiply(y[first:], out, first, end-first)
}

// Multiply multiplies the count rows w from first with each of the n rows of x that were
// loaded:
//
//	y[i·yStride + j] = Σ_c w[first+j][c] · x[i][c]
//
// Rows that were opened as exact are summed in float64, from the first column to the last,
// and rounded once: the definition of a product. Others are summed in float32, in an order
// that depends on the vector instructions, the format and how many rows of x there are, but
// never on the other rows of x:
//
//	plain Go         over 32 columns in float32, over these sums in float64
//	AVX2, AVX-512    in 8 or 16 lanes and several sums a lane, then over these;
//	                 for one row of MXFP8 and INT8 over 32 columns first
//	AVX-512 VBMI     up to 16 rows of MXFP4 and NVFP4: x as multiples of a power of two,
//	                 2^23 at most, of 16 columns; exact sums over these, rounded and
//	                 added up in 16 lanes, over 256 columns and more
//	AVX-512 BF16     for MXFP8 and BF16 where the device rounds activations, see
//	                 [hip.HostOptions]: x as one or two bfloat16, in 16 lanes, a
//	                 pair of columns after the other; up to 8 rows of MXFP8 over 64
//	                 columns first, more over the first parts of 1024 columns, then
//	                 over the next parts
//	NEON BF16        likewise, x as one bfloat16: a row in 4 lanes and two sums a lane, or
//	                 for MXFP8 over 32 columns; several rows a pair of columns after the
//	                 other, up to 8 rows of MXFP8 over 32 columns first
//	AMX              for several rows of MXFP8 and BF16: x as three bfloat16 that
//	                 add up to it, or as one or two, pair by pair of columns in
//	                 order, then over the sums of the parts; with more rows than
//	                 make 48 of parts in one sum, 512 columns after the others, or
//	                 256 of each of several parts, the lowest bits first; for three
//	                 parts over those columns, then over these sums
//
// The error is a few units in the last place of the sum of the magnitudes of its
// terms, beside what rounding of x adds; with x as multiples, each term has the largest x of
// its 16 columns in that sum. Columns after the last 64 are added in float64,
// with x as it is. The last three take what is below 2^−126, in x, in its parts, in bfloat16
// weights and in products before their scale, for zero: of each x up to 2^−126 for every
// part is lost.
func (r *Rows) Multiply(y []float32, yStride, first, count int) {
	if r.exact {
		r.multiplyExact(y, yStride, first, count)
		return
	}
	r.multiplyHost(y, yStride, first, count)
}

// multiplyExact is the definition.
func (r *Rows) multiplyExact(y []float32, yStride, first, count int) {
	w := r.decoded()
	for j := range count {
		r.Decode(w, first+j)
		for i := range r.x.n {
			y[i*yStride+j] = float32(dot64(w, r.x.x[i*r.cols:(i+1)*r.cols]))
		}
	}
}

// dot64 sums in float64, from the first value to the last.
func dot64(w, x []float32) float64 {
	sum := 0.0
	for i, v := range x {
		sum += float64(w[i]) * float64(v)
	}
	return sum
}
