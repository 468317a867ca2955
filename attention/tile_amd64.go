package attention

import "github.com/drafthead/drafthead/hip"

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
// bestScoresAVX512.
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

func widenVector(simd hip.SIMD, dst *float32, src *hip.BF16, n int) {
	if simd >= hip.SIMDAVX512 {
		widenAVX512(dst, src, n)
		return
	}
	widenAVX2(dst, src, n)
}

// All levels have these.
func narrowVector(dst *hip.BF16, src *float32, n int)  { narrowAVX2(dst, src, n) }
func rotateVector(low, high, cos, sin *float32, n int) { rotateAVX2(low, high, cos, sin, n) }

// keyScoresAVX512 sets, for each key j of Groups·16 and lane h of 16,
//
//	Scores[j][h] = Σ Keys[j][d]·Queries[d][h]        d ascending
//
// in float32 with fused multiply-adds, one strand. Meanwhile it asks for the
// memory at Ahead, AheadStep bytes for each d and group.
//
//go:noescape
func keyScoresAVX512(a *keyScoresArgs)

// keyScoresAVX2 is keyScoresAVX512.
//
//go:noescape
func keyScoresAVX2(a *keyScoresArgs)

// addValuesAVX512 adds to Sums[h][d], for each lane h of 16 and d < Dim, which is
// a multiple of 32,
//
//	Σ Weights[j][h]·Values[j][d]                      j ascending, j < Keys
//
// summed from 0 in float32 with fused multiply-adds, one strand. Meanwhile it
// asks for the memory at Ahead, AheadStep bytes for each key and 32·8 products.
//
//go:noescape
func addValuesAVX512(a *addValuesArgs)

// addValuesAVX2 is addValuesAVX512.
//
//go:noescape
func addValuesAVX2(a *addValuesArgs)

// bestScoresBF16AVX512 sets, for four heads h,
//
//	Best[h] = max over j < Keys of Σ BF16[j][d]·query h[d],   NaN if one is
//
// Products are summed in float32 with fused multiply-adds: d in strand
// (d mod 32 / 2, whatever its parity), the 16 strands pairwise. Dim is a multiple
// of 32. Queries holds, for each 32 values, the even ones of each head and then
// the odd ones of each head. Meanwhile it asks for the memory that follows in
// PrefetchBytes, and behind the last key for that at Next.
//
//go:noescape
func bestScoresBF16AVX512(a *bestScoresArgs)

// bestScoresBF16AVX2 is bestScoresBF16AVX512 with 8 strands.
//
//go:noescape
func bestScoresBF16AVX2(a *bestScoresArgs)

// bestScoresF32AVX512 is bestScoresBF16AVX512 over F32, d in strand d mod 16. Dim
// is a multiple of 16. Queries holds, for each 16 values, those of each head.
//
//go:noescape
func bestScoresF32AVX512(a *bestScoresArgs)

// bestScoresF32AVX2 is bestScoresF32AVX512, d in strand d mod 8.
//
//go:noescape
func bestScoresF32AVX2(a *bestScoresArgs)

// widenAVX512 converts n values, a multiple of 32, exactly.
//
//go:noescape
func widenAVX512(dst *float32, src *hip.BF16, n int)

// widenAVX2 is widenAVX512.
//
//go:noescape
func widenAVX2(dst *float32, src *hip.BF16, n int)

// narrowAVX2 is hip.ToBF16 of n values, a multiple of 16.
//
//go:noescape
func narrowAVX2(dst *hip.BF16, src *float32, n int)

// rotateAVX2 turns n pairs, a multiple of 8:
//
//	low[j], high[j] = low[j]·cos[j] − high[j]·sin[j], high[j]·cos[j] + low[j]·sin[j]
//
// The products with sin are rounded to float32, those with cos fused with the sums.
//
//go:noescape
func rotateAVX2(low, high, cos, sin *float32, n int)

// bestScoresTiles sets, for 16 lanes h,
//
//	Best[h] = max over j < Keys of Σ BF16[j][d]·query h[d],   NaN if one is
//
// where query h[d] is the sum of three bfloat16 numbers, of which Queries holds,
// for each 32 values, three tiles [d/2][lane][d mod 2]: the smallest numbers
// first. Products are exact; they are summed in float32, for each 32 values the
// smallest numbers' first, in the order of TDPBF16PS, which takes numbers below
// 2^-126 as 0. An infinity may make a NaN. Dim is a multiple of 32, Keys of 64.
//
//go:noescape
func bestScoresTiles(a *tileScoresArgs)
