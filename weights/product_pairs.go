package weights

import (
	"math"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// Products of pairs of bfloat16 are of weights that are exact in bfloat16, and of x as one or
// two bfloat16. The instruction takes subnormal numbers as zeros and makes no others;
// it rounds to the nearest, the two products of a pair one after the other. Those of arm64
// add the products of a pair, and then the sum, and round both to odd. The one for several
// rows of x does so with two pairs, one after the other, of two rows of weights and two rows
// of x: they lie together, four columns of one row and then of the other.

// fewPairs is the rows of x up to which weights are read as they are stored; more are
// multiplied with panels of weights.
const fewPairs = 8

// partsOf returns how many bfloat16 stand for a value of x; 0: none do. Three would be as
// good as float32, and slower than products in float32 for any number of rows: a Zen 4
// does at most two of these in the time of one of those.
func partsOf(a hip.Activations) int {
	switch a {
	case hip.ActivationsBF16:
		return 1
	case hip.ActivationsBF16x2:
		return 2
	}
	return 0
}

// usesPairs reports whether x is multiplied with rows of a format by pairs.
func (r *Rows) usesPairs(f Format) bool {
	return r.parts > 0 && r.level != nil && r.level.decodePairs[f] != nil && r.cols >= chunkColumns
}

// splitRow brings chunks of a row, from column c on, into bfloat16 for a format: the
// columns of a chunk lie in the order in which the format's values are unpacked.
//
//	pairs   [rows][chunks][parts][chunkColumns] bfloat16
//	        [pairs of rows][cols/4][2][4], see together
func (r *Rows) splitRow(o *operand, f Format, i, c, chunks int) {
	x, to := &o.from.row(i, r.cols)[c], o.pairs[f]
	if r.together(o.n) == 2 {
		end := i + 1
		if end == o.n && o.n%2 == 1 { // a last row without another goes with itself
			end++
		}
		for k := i; k < end; k++ {
			r.level.matrix.split(&splitArgs{x: x, to: &to[k/2*2*r.pairsStride()+k%2*4+2*c], chunks: chunks})
		}
		return
	}
	r.level.split[f][r.parts](&splitArgs{x: x, to: &to[i*r.pairsStride()+c*r.parts], chunks: chunks, step: 2 * chunkColumns * r.parts, another: 2 * chunkColumns})
}

// pairsStride is the values of a row of x.
func (r *Rows) pairsStride() int { return r.cols / chunkColumns * chunkColumns * r.parts }

// together returns how many of n rows of x lie together, and are multiplied at once.
func (r *Rows) together(n int) int {
	if n > 1 && r.level.matrix != nil {
		return 2
	}
	return 1
}

// multiplyPairs multiplies rows of weights with x as bfloat16. Rows of which a result is
// NaN are left to multiplyPanels: an infinite weight times a part that is zero is one.
func (r *Rows) multiplyPairs(y []float32, yStride int, s *run, x *operand) {
	if x.n > fewPairs {
		r.multiplyPairsPanels(y, yStride, s, x)
		return
	}
	together := r.together(x.n)
	stride := r.cols / chunkColumns * chunkColumns * r.parts * together
	products := &r.level.pairs[s.format][r.parts]
	if together == 2 {
		products = &r.level.matrix.pairs[s.format]
	}
	side := pairsRows
	if x.n == 1 && s.format.quantized() {
		side = 1
	}
	rows := s.rows / side * side
	totals := scratch(r.b, &r.totals, nearRows*maxPairs*together)
	for first := 0; first < rows; first += nearRows {
		n := min(nearRows, rows-first)
		data, scale := s.row(first, 0, r.cols)
		for i, count := 0, 0; i < x.n; i += count {
			most := evenShare(ceilDiv(x.n-i, together), maxPairs)
			count = most * together
			a := &r.calls.pairs
			*a = pairsArgs{
				w: &data[0], scale: unsafe.SliceData(scale), x: &x.pairs[s.format][i/together*stride], y: &totals[0],
				groups: n / side, chunks: r.cols / chunkColumns,
				rowStride: s.rowStride, scaleStride: s.scaleStride, xStride: 2 * stride,
			}
			products[most](a)
			if hasNaN(totals[:n*count]) {
				some := s.slice(first, n)
				r.multiplyPanels(y[first:], yStride, &some, r.floats(x, 0, x.n))
				break
			}
			for k := range min(count, x.n-i) {
				out := y[(i+k)*yStride+first:][:n]
				for j := range out {
					out[j] = totals[j*count+k]
				}
			}
		}
	}
	if rows < s.rows {
		rest := s.slice(rows, s.rows-rows)
		r.multiplyPairsPanels(y[rows:], yStride, &rest, x)
	}
}

func hasNaN(values []float32) bool {
	sum := float32(0)
	for _, v := range values {
		sum += v * 0 // NaN of what is infinite, too
	}
	return sum != sum && containsNaN(values)
}

func containsNaN(values []float32) bool {
	for _, v := range values {
		if math.IsNaN(float64(v)) {
			return true
		}
	}
	return false
}
