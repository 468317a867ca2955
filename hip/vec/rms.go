package vec

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// RMS64 is Gemma RMSNorm of one row, the definition:
//
//	dst[i] = x[i] · 1/√(mean(x²) + eps) · (1 + w[i])
//
// It computes in float64 and rounds the result to float32 once. dst may be x. dst and w
// have the length of x.
func RMS64(dst, x, w []float32, eps float64) {
	scale := 1 / math.Sqrt(sumSquares(x)/float64(len(x))+eps)
	for i, v := range x {
		dst[i] = float32(float64(v) * scale * (1 + float64(w[i])))
	}
}

// rms32 is [RMS] in plain Go.
func rms32(dst, x, w []float32, eps float64) {
	scale, ok := rmsScale(sumSquares32(x), len(x), eps)
	if !ok {
		RMS64(dst, x, w, eps)
		return
	}
	weigh32(dst, x, w, scale)
}

// RMS is [RMS64] in float32, with vector instructions up to simd. It sums squares in 64
// strands (AVX-512), 32 (AVX2, NEON) or 8 (plain Go, and the values after the last multiple of 16
// at every level). It leaves a row whose float32 squares overflow or vanish to RMS64.
func RMS(simd hip.SIMD, dst, x, w []float32, eps float64) {
	whole := len(x) &^ 15
	if !hasVectors(simd) || whole == 0 {
		rms32(dst, x, w, eps)
		return
	}
	sum := sumSquaresVector(simd, &x[0], whole) + sumSquares32(x[whole:])
	scale, ok := rmsScale(sum, len(x), eps)
	if !ok {
		RMS64(dst, x, w, eps)
		return
	}
	dst, w = dst[:len(x)], w[:len(x)]
	weighVector(simd, &dst[0], &x[0], &w[0], whole, scale)
	weigh32(dst[whole:], x[whole:], w[whole:], scale)
}

// Add adds x to sum, value by value, in float32. sum has at least the length of x.
func Add(simd hip.SIMD, sum, x []float32) {
	sum = sum[:len(x)]
	whole := 0
	if hasVectors(simd) && len(x) >= 16 {
		whole = len(x) &^ 15
		addVector(simd, &sum[0], &x[0], whole)
	}
	for i := whole; i < len(x); i++ {
		sum[i] += x[i]
	}
}

// rmsScale is 1/√(sum/n + eps); ok is false if the float32 sum cannot be trusted.
func rmsScale(sum float32, n int, eps float64) (scale float32, ok bool) {
	return float32(1 / math.Sqrt(float64(sum)/float64(n)+eps)), sum > smallestSum && sum < largestSum
}

func weigh32(dst, x, w []float32, scale float32) {
	dst, w = dst[:len(x)], w[:len(x)]
	for i, v := range x {
		dst[i] = v * scale * (1 + w[i])
	}
}

// Between these a float32 sum of squares has neither lost a square that counts
// to underflow nor come near overflow.
const (
	smallestSum = 1e-24
	largestSum  = 1e36
)

func sumSquares(x []float32) float64 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v) * float64(v)
	}
	return sum
}

func sumSquares32(x []float32) float32 {
	var s [8]float32
	for ; len(x) >= len(s); x = x[len(s):] {
		v := (*[len(s)]float32)(x)
		s[0] += v[0] * v[0]
		s[1] += v[1] * v[1]
		s[2] += v[2] * v[2]
		s[3] += v[3] * v[3]
		s[4] += v[4] * v[4]
		s[5] += v[5] * v[5]
		s[6] += v[6] * v[6]
		s[7] += v[7] * v[7]
	}
	for i, v := range x {
		s[i] += v * v
	}
	return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))
}
