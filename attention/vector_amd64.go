package attention

import "github.com/drafthead/drafthead/hip"

//go:generate go run ../hip/internal/asmgen attention

// hasVectors reports whether a level has the functions of this file.
func hasVectors(simd hip.SIMD) bool { return simd >= hip.SIMDAVX2 }

// keyScores rates groups of 16 keys for the 16 heads of a tile, see
// keyScoresAVX512.
func keyScores(simd hip.SIMD, a *keyScoresArgs) {
	if simd >= hip.SIMDAVX512 {
		keyScoresAVX512(a)
		return
	}
	keyScoresAVX2(a)
}

// addValues adds weighted values to the sums of a tile, see addValuesAVX512.
func addValues(simd hip.SIMD, a *addValuesArgs) {
	if simd >= hip.SIMDAVX512 {
		addValuesAVX512(a)
		return
	}
	addValuesAVX2(a)
}

// bestScores finds the best scores of keys for four index heads, see
// bestScoresBF16AVX512.
func bestScores(simd hip.SIMD, a *bestScoresArgs) {
	switch {
	case simd >= hip.SIMDAVX512 && a.BF16 != nil:
		bestScoresBF16AVX512(a)
	case simd >= hip.SIMDAVX512:
		bestScoresF32AVX512(a)
	case a.BF16 != nil:
		bestScoresBF16AVX2(a)
	default:
		bestScoresF32AVX2(a)
	}
}

// widenVector converts n values exactly, see widenAVX512.
func widenVector(simd hip.SIMD, dst *float32, src *hip.BF16, n int) {
	if simd >= hip.SIMDAVX512 {
		widenAVX512(dst, src, n)
		return
	}
	widenAVX2(dst, src, n)
}

// widenFP8 makes bfloat16 of n codes exactly, see widenFP8AVX512.
func widenFP8(simd hip.SIMD, dst *hip.BF16, src *hip.E4M3, n int) {
	if simd >= hip.SIMDAVX512 {
		widenFP8AVX512(dst, src, n)
		return
	}
	widenFP8AVX2(dst, src, n)
}

// All levels have these.
func narrowVector(dst *hip.BF16, src *float32, n int)  { narrowAVX2(dst, src, n) }
func rotateVector(low, high, cos, sin *float32, n int) { rotateAVX2(low, high, cos, sin, n) }
