package vec

import "github.com/drafthead/drafthead/hip"

//go:generate go run ../internal/asmgen vec

// hasVectors reports whether a level has the functions of this file.
func hasVectors(simd hip.SIMD) bool { return simd >= hip.SIMDAVX2 }

// The vector parts of [RMS] and [Add], for n values, a multiple of 16.

func sumSquaresVector(simd hip.SIMD, x *float32, n int) float32 {
	if simd >= hip.SIMDAVX512 {
		return sumSquaresAVX512(x, n)
	}
	return sumSquaresAVX2(x, n)
}

func weighVector(simd hip.SIMD, dst, x, w *float32, n int, scale float32) {
	if simd >= hip.SIMDAVX512 {
		weighAVX512(dst, x, w, n, scale)
		return
	}
	weighAVX2(dst, x, w, n, scale)
}

func addVector(simd hip.SIMD, sum, x *float32, n int) {
	if simd >= hip.SIMDAVX512 {
		addAVX512(sum, x, n)
		return
	}
	addAVX2(sum, x, n)
}

// The vector parts of [Softmax], [Largest] and [ExpSum]. Rows have 16 columns, and
// there is at least one.

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

// swiGLUVector is the vector part of [SwiGLU], for n values, a multiple of 16, or returns
// false.
func swiGLUVector(simd hip.SIMD, y, gate, up *float32, n int, c *[5]float32) bool {
	switch {
	case simd >= hip.SIMDAVX512:
		swiGLUAVX512(y, gate, up, n, c)
	case simd >= hip.SIMDAVX2:
		swiGLUAVX2(y, gate, up, n, c)
	default:
		return false
	}
	return true
}
