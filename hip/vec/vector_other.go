//go:build !amd64 && !arm64

package vec

import "github.com/drafthead/drafthead/hip"

// hasVectors reports whether a level has vector functions.
func hasVectors(hip.SIMD) bool { return false }

// No level has vector functions, and none reaches these.
const noVectors = "vec: no vector instructions on this architecture"

func sumSquaresVector(hip.SIMD, *float32, int) float32 { panic(noVectors) }

func weighVector(simd hip.SIMD, dst, x, w *float32, n int, scale float32) { panic(noVectors) }

func addVector(simd hip.SIMD, sum, x *float32, n int) { panic(noVectors) }

func firstEqualVector(simd hip.SIMD, x *float32, n int, value float32) int { panic(noVectors) }

func columnMaxVector(simd hip.SIMD, x *float32, n int, top *[16]float32) { panic(noVectors) }

func columnExpVector(simd hip.SIMD, dst *float32, step int, x *float32, n int, top, sum *[16]float32) {
	panic(noVectors)
}

func columnScaleVector(simd hip.SIMD, x *float32, n int, factor *[16]float32) { panic(noVectors) }

// No level has the vector part of [SwiGLU].
func swiGLUVector(_ hip.SIMD, _, _, _ *float32, _ int, _ *[5]float32) bool { return false }
