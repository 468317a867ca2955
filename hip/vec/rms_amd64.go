package vec

import "github.com/drafthead/drafthead/hip"

// The vector parts of [RMS] and of the residual addition, for n values, a
// multiple of 16.

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

// sumSquaresAVX512 returns Σ x[i]² in float32: x[i] in strand i mod 64, the last
// n mod 64 in the first strands, fused; the strands are added pairwise.
//
//go:noescape
func sumSquaresAVX512(x *float32, n int) float32

// sumSquaresAVX2 is sumSquaresAVX512 in 32 strands.
//
//go:noescape
func sumSquaresAVX2(x *float32, n int) float32

// weighAVX512 sets dst[i] = x[i]·scale·(1 + w[i]), each operation rounded to
// float32. dst may be x.
//
//go:noescape
func weighAVX512(dst, x, w *float32, n int, scale float32)

// weighAVX2 is weighAVX512.
//
//go:noescape
func weighAVX2(dst, x, w *float32, n int, scale float32)

// addAVX512 adds x[i] to sum[i], in float32.
//
//go:noescape
func addAVX512(sum, x *float32, n int)

// addAVX2 is addAVX512.
//
//go:noescape
func addAVX2(sum, x *float32, n int)
