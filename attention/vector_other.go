//go:build !amd64 && !arm64

package attention

import "github.com/drafthead/drafthead/hip"

// hasVectors reports whether a level has vector functions.
func hasVectors(hip.SIMD) bool { return false }

// No level has vector functions, and none reaches these.
const noVectors = "attention: no vector instructions on this architecture"

func keyScores(hip.SIMD, *keyScoresArgs)                     { panic(noVectors) }
func addValues(hip.SIMD, *addValuesArgs)                     { panic(noVectors) }
func bestScores(hip.SIMD, *bestScoresArgs)                   { panic(noVectors) }
func widenVector(_ hip.SIMD, _ *float32, _ *hip.BF16, _ int) { panic(noVectors) }
func widenFP8(_ hip.SIMD, _ *hip.BF16, _ *hip.E4M3, _ int)   { panic(noVectors) }
func narrowVector(_ *hip.BF16, _ *float32, _ int)            { panic(noVectors) }
func rotateVector(_, _, _, _ *float32, _ int)                { panic(noVectors) }
