package vec

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// SwiGLU activates the values of gate and up, as many as y has, in float32:
//
//	g    = min(gate[i], limit)
//	u    = clamp(up[i], −limit, +limit)
//	y[i] = g · sigmoid(alpha·g) · (u + beta)
//
// A NaN in gate or up gives NaN. y may be gate. With vector instructions, for all but the
// last n mod 16 values, the exponential is float32 within 2^-22 of its value, and 0 below
// e^-86.5; otherwise it is float64.
func SwiGLU(simd hip.SIMD, y, gate, up []float32, alpha float64, limit, beta float32) {
	gate, up = gate[:len(y)], up[:len(y)]
	done, high := 0, float32(alpha)
	if whole := len(y) &^ 15; whole > 0 &&
		swiGLUVector(simd, &y[0], &gate[0], &up[0], whole, &[5]float32{limit, -limit, beta, -high, float32(float64(high) - alpha)}) {
		done = whole
	}
	for i := done; i < len(y); i++ {
		g := min(gate[i], limit)
		u := min(max(up[i], -limit), limit)
		y[i] = g * float32(1/(1+math.Exp(-alpha*float64(g)))) * (u + beta)
	}
}
