package moe

import (
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/vec"
)

// swiGLU is the activation SwiGLU-OAI, as gpt-oss defined it. With g the gate,
// limited from above, and u the up value, limited from both sides:
//
//	g        = min(gate, limit)
//	u        = clamp(up, −limit, +limit)
//	act      = g · sigmoid(alpha · g) · (u + beta)
//
// A NaN in gate or up gives NaN: Go's min and max keep it. (A kernel must not
// use fminf, which returns the other operand.)
type swiGLU struct {
	alpha, limit, beta float64
}

// activate64 is the definition: float64, rounded once.
func (s swiGLU) activate64(gate, up float32) float32 {
	g := min(float64(gate), s.limit)
	u := min(max(float64(up), -s.limit), s.limit)
	return float32(g * sigmoid(s.alpha*g) * (u + s.beta))
}

// activate is [swiGLU.activate64] for many values, in float32: see [vec.SwiGLU]. gate becomes
// the result.
func (s swiGLU) activate(simd hip.SIMD, gate, up []float32) {
	vec.SwiGLU(simd, gate, gate, up, s.alpha, float32(s.limit), float32(s.beta))
}

// define is activate by the definition.
func (s swiGLU) define(_ hip.SIMD, gate, up []float32) {
	for i, g := range gate {
		gate[i] = s.activate64(g, up[i])
	}
}

// sigmoid returns 1 / (1 + e^−x). It does not overflow: e^−x may be +Inf.
func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
