package vec

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// columnsAtOnce is the number of columns of x for which [Softmax] uses vector instructions.
const columnsAtOnce = 16

// Softmax turns each column of x, float32 [rows, columns], into its softmax:
//
//	x[r][c] = exp(x[r][c] − top[c]) / Σ exp(x[r'][c] − top[c]),  top[c] = max x[r'][c]
//
// The length of x must be a multiple of columns. A NaN or +Inf makes its column NaN. With
// vector instructions, which need 16 columns, exponentials are float32 within 2^-22
// of their value, and 0 below e^-86.5; their sum is float32, with row r in strand r mod 4
// (AVX-512) or r mod 2 (AVX2, NEON). Otherwise both are float64.
func Softmax(simd hip.SIMD, x []float32, columns int) {
	if len(x) == 0 {
		return
	}
	if !hasVectors(simd) || columns != columnsAtOnce {
		for c := range columns {
			softmaxColumn(x, c, columns)
		}
		return
	}
	rows := len(x) / columnsAtOnce
	var top, sum [columnsAtOnce]float32
	columnMaxVector(simd, &x[0], rows, &top)
	columnExpVector(simd, &x[0], columnsAtOnce, &x[0], rows, &top, &sum)
	for c := range sum {
		sum[c] = 1 / sum[c]
	}
	columnScaleVector(simd, &x[0], rows, &sum)
}

// softmaxColumn is [Softmax] of the column x[first], x[first+stride], …
func softmaxColumn(x []float32, first, stride int) {
	top := float32(math.Inf(-1))
	for i := first; i < len(x); i += stride {
		top = max(top, x[i])
	}
	total := 0.0
	for i := first; i < len(x); i += stride {
		w := math.Exp(float64(x[i] - top))
		x[i] = float32(w)
		total += w
	}
	inverse := float32(1 / total)
	for i := first; i < len(x); i += stride {
		x[i] *= inverse
	}
}

// Largest returns the first index of the largest number in x, or 0 if all values are NaN. x
// must not be empty.
func Largest(simd hip.SIMD, x []float32) int {
	whole := len(x) &^ (columnsAtOnce - 1)
	if !hasVectors(simd) || whole == 0 {
		return largest(x)
	}
	var tops [columnsAtOnce]float32
	columnMaxVector(simd, &x[0], whole/columnsAtOnce, &tops)
	top := tops[largest(tops[:])]
	if rest := x[whole:]; len(rest) > 0 {
		if at := largest(rest); rest[at] > top {
			return whole + at
		}
	}
	if at := firstEqualVector(simd, &x[0], whole, top); at < whole {
		return at
	}
	// Nothing but NaN, unless a −Inf comes after it.
	return largest(x)
}

func largest(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] || x[best] != x[best] && v == v {
			best = i
		}
	}
	return best
}

// ExpSum returns Σ exp(x[i] − top) for a finite top that is at least every x[i], or NaN if
// an x[i] is NaN. With vector instructions it computes exponentials as [Softmax] does and
// sums them in 64 (AVX-512) or 32 (AVX2, NEON) float32 strands and then in float64; otherwise it
// uses float64. Terms below e^-30 may be left out: with fewer than 2^18 of them they cannot
// change a float32 sum that is at least 1.
func ExpSum(simd hip.SIMD, x []float32, top float32) float64 {
	sum, whole := 0.0, len(x)&^(columnsAtOnce-1)
	if !hasVectors(simd) {
		whole = 0
	}
	if whole > 0 {
		var tops, sums, last [columnsAtOnce]float32
		for c := range tops {
			tops[c] = top
		}
		columnExpVector(simd, &last[0], 0, &x[0], whole/columnsAtOnce, &tops, &sums)
		for _, s := range sums {
			sum += float64(s)
		}
	}
	for _, v := range x[whole:] {
		if d := float64(v) - float64(top); !(d < -30) {
			sum += math.Exp(d)
		}
	}
	return sum
}
