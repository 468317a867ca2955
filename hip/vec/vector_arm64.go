package vec

import "github.com/drafthead/drafthead/hip"

// hasVectors reports whether a level has the functions of this file.
func hasVectors(simd hip.SIMD) bool { return simd >= hip.SIMDNEON }

// The vector parts of [RMS] and [Add], for n values, a multiple of 16.

func sumSquaresVector(_ hip.SIMD, x *float32, n int) float32 { return sumSquaresNEON(x, n) }

func weighVector(_ hip.SIMD, dst, x, w *float32, n int, scale float32) {
	weighNEON(dst, x, w, n, scale)
}

func addVector(_ hip.SIMD, sum, x *float32, n int) { addNEON(sum, x, n) }

// The vector parts of [Softmax], [Largest] and [ExpSum]. Rows have 16 columns, and
// there is at least one.

func firstEqualVector(_ hip.SIMD, x *float32, n int, value float32) int {
	return firstEqualNEON(x, n, value)
}

func columnMaxVector(_ hip.SIMD, x *float32, n int, top *[16]float32) { columnMaxNEON(x, n, top) }

func columnExpVector(_ hip.SIMD, dst *float32, step int, x *float32, n int, top, sum *[16]float32) {
	columnExpNEON(dst, step, x, n, top, sum)
}

func columnScaleVector(_ hip.SIMD, x *float32, n int, factor *[16]float32) {
	columnScaleNEON(x, n, factor)
}

// No level has the vector part of [SwiGLU].
func swiGLUVector(_ hip.SIMD, _, _, _ *float32, _ int, _ *[5]float32) bool { return false }
