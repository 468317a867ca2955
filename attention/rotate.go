package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// rotation is the cosines and sines of one position, one for each pair.
type rotation struct {
	cos, sin []float32
}

// set computes the rotation of a position: the angle position·frequency, its
// cosine and sine and their product with factor in float64, rounded once.
func (r rotation) set(position int32, frequencies []float64, factor float64) {
	for j, f := range frequencies {
		sin, cos := math.Sincos(float64(position) * f)
		r.cos[j], r.sin[j] = float32(factor*cos), float32(factor*sin)
	}
}

// rotate64 turns the pairs (j, j + len(cos)) of one head, in place (see
// [Rope]): products and sums in float64, rounded once.
func rotate64(x []float32, r rotation) {
	half := len(r.cos)
	for j := range half {
		a, b := float64(x[j]), float64(x[j+half])
		cos, sin := float64(r.cos[j]), float64(r.sin[j])
		x[j], x[j+half] = float32(a*cos-b*sin), float32(b*cos+a*sin)
	}
}

// rotate32 is [rotate64] in float32.
func rotate32(x []float32, r rotation) {
	half := len(r.cos)
	low, high, sin := x[:half], x[half:][:half], r.sin[:half]
	for j, cos := range r.cos {
		a, b := low[j], high[j]
		low[j], high[j] = a*cos-b*sin[j], b*cos+a*sin[j]
	}
}

// rotateWith is [rotate32] with vector instructions up to simd, which may fuse a
// product with the sum.
func rotateWith(simd hip.SIMD, x []float32, r rotation) {
	half := len(r.cos)
	whole := half &^ 7
	if !hasVectors(simd) || whole == 0 {
		rotate32(x, r)
		return
	}
	low, high := x[:half], x[half:][:half]
	rotateVector(&low[0], &high[0], &r.cos[0], &r.sin[0], whole)
	for j := whole; j < half; j++ {
		a, b, cos, sin := low[j], high[j], r.cos[j], r.sin[j]
		low[j], high[j] = a*cos-b*sin, b*cos+a*sin
	}
}
