package attention

import "github.com/drafthead/drafthead/hip"

// hasVectors reports whether a level has the functions of this file.
func hasVectors(simd hip.SIMD) bool { return simd >= hip.SIMDNEON }

// keyScores rates groups of 16 keys for the 16 heads of a tile.
func keyScores(_ hip.SIMD, a *keyScoresArgs) { keyScoresNEON(a) }

// addValues adds weighted values to the sums of a tile.
func addValues(_ hip.SIMD, a *addValuesArgs) { addValuesNEON(a) }

// bestScores finds the best scores of keys for four index heads.
func bestScores(_ hip.SIMD, a *bestScoresArgs) {
	if a.BF16 != nil {
		bestScoresBF16NEON(a)
		return
	}
	bestScoresF32NEON(a)
}

// widenVector converts n values exactly.
func widenVector(_ hip.SIMD, dst *float32, src *hip.BF16, n int) { widenNEON(dst, src, n) }

// widenFP8 makes bfloat16 of n codes exactly.
func widenFP8(_ hip.SIMD, dst *hip.BF16, src *hip.E4M3, n int) { widenFP8NEON(dst, src, n) }

func narrowVector(dst *hip.BF16, src *float32, n int)  { narrowNEON(dst, src, n) }
func rotateVector(low, high, cos, sin *float32, n int) { rotateNEON(low, high, cos, sin, n) }
