package vec

import "github.com/drafthead/drafthead/hip"

// The vector parts of [Softmax], [Largest] and [ExpSum]. Rows have 16 columns,
// and there is at least one.

func firstEqualVector(simd hip.SIMD, x *float32, n int, value float32) int {
	if simd >= hip.SIMDAVX512 {
		return firstEqualAVX512(x, n, value)
	}
	return firstEqualAVX2(x, n, value)
}

func columnMaxVector(simd hip.SIMD, x *float32, n int, top *[16]float32) {
	if simd >= hip.SIMDAVX512 {
		columnMaxAVX512(x, n, top)
		return
	}
	columnMaxAVX2(x, n, top)
}

func columnExpVector(simd hip.SIMD, dst *float32, step int, x *float32, n int, top, sum *[16]float32) {
	if simd >= hip.SIMDAVX512 {
		columnExpAVX512(dst, step, x, n, top, sum)
		return
	}
	columnExpAVX2(dst, step, x, n, top, sum)
}

func columnScaleVector(simd hip.SIMD, x *float32, n int, factor *[16]float32) {
	if simd >= hip.SIMDAVX512 {
		columnScaleAVX512(x, n, factor)
		return
	}
	columnScaleAVX2(x, n, factor)
}

// expTable is what the assembly's exp needs, in this order:
//
//	n      = x·log₂e rounded to an integer
//	r      = (x − n·ln2) − n·(ln 2 − ln2)        fused: |r| ≤ ½·ln 2
//	exp(x) ≈ 2ⁿ · (1 + r·(1 + r·(c2 + r·(c3 + r·(c4 + r·(c5 + r·c6))))))
//
// The polynomial is the one of its kind whose largest relative error is least,
// 3.8e-9; with the roundings the result is within 2^-22. Where x < least it is
// 0: from there on down 2ⁿ is not a normal number.
var expTable = [...]float32{
	-86.5,                   // least
	1.4426950216293335,      // log₂e
	0.6931471824645996,      // ln2
	-1.9046542121259336e-09, // ln 2 − ln2
	0.001381459878757596,    // c6
	0.008368716575205326,    // c5
	0.04166838899254799,     // c4
	0.1666652113199234,      // c3
	0.4999999403953552,      // c2
	1,
}

// columnMaxAVX512 sets top[c] to the largest number of column c of x, −Inf where
// there is none: NaN is passed over.
//
//go:noescape
func columnMaxAVX512(x *float32, n int, top *[16]float32)

// columnMaxAVX2 is columnMaxAVX512.
//
//go:noescape
func columnMaxAVX2(x *float32, n int, top *[16]float32)

// columnExpAVX512 sets dst[r·step + c] = exp(x[r][c] − top[c]), see expTable, and
// sum[c] to the sum of these over r: float32, r in strand r mod 4, the last
// n mod 4 in the first. dst may be x; with a step of 0 the sum is what counts.
//
//go:noescape
func columnExpAVX512(dst *float32, step int, x *float32, n int, top, sum *[16]float32)

// columnExpAVX2 is columnExpAVX512 but for the strands, r mod 2.
//
//go:noescape
func columnExpAVX2(dst *float32, step int, x *float32, n int, top, sum *[16]float32)

// columnScaleAVX512 multiplies column c by factor[c].
//
//go:noescape
func columnScaleAVX512(x *float32, n int, factor *[16]float32)

// columnScaleAVX2 is columnScaleAVX512.
//
//go:noescape
func columnScaleAVX2(x *float32, n int, factor *[16]float32)

// firstEqualAVX512 returns the first index of value among the n of x, a multiple
// of 16, or n.
//
//go:noescape
func firstEqualAVX512(x *float32, n int, value float32) int

// firstEqualAVX2 is firstEqualAVX512.
//
//go:noescape
func firstEqualAVX2(x *float32, n int, value float32) int
