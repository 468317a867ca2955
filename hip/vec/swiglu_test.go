package vec

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// swiGLU64 is the definition.
func swiGLU64(gate, up, alpha, limit, beta float64) float64 {
	g, u := min(gate, limit), min(max(up, -limit), limit)
	return g / (1 + math.Exp(-alpha*g)) * (u + beta)
}

func TestSwiGLU(t *testing.T) {
	const alpha, limit, beta = 1.702, 7, 1
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range lengths {
			gate, up, y := guarded(t, 1, n), guarded(t, 2, n), guarded(t, 3, n)
			for i := range gate {
				gate[i], up[i] = 8*gate[i], 8*up[i]
			}
			SwiGLU(simd, y, gate, up, alpha, limit, beta)
			for i, v := range y {
				want := swiGLU64(float64(gate[i]), float64(up[i]), alpha, limit, beta)
				require.InDelta(t, want, float64(v), 4e-7*math.Abs(want), "%v of %v: %v, %v", i, n, gate[i], up[i])
			}
			SwiGLU(simd, gate, gate, up, alpha, limit, beta)
			require.Equal(t, y, gate, "in place")
		}
	})
}

// TestSwiGLUOfExtremes: in a vector and after it.
func TestSwiGLUOfExtremes(t *testing.T) {
	values := []float32{0, 1, -1, 7, -60, -70, -88, -89, -1e30, 1e30, math.MaxFloat32, -math.MaxFloat32, inf, -inf, nan}
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, alpha := range []float64{1.702, 1, -0.9, 0} {
			for _, limit := range []float32{7, inf} {
				for _, g := range values {
					for _, u := range values {
						if limit == inf && !(u >= -1 && u <= 1) {
							continue // g·sigmoid may be below the least float32
						}
						gate, up := make([]float32, 17), make([]float32, 17)
						for i := range gate {
							gate[i], up[i] = g, u
						}
						SwiGLU(simd, gate, gate, up, alpha, limit, 1)
						want := swiGLU64(float64(g), float64(u), alpha, float64(limit), 1)
						for i, v := range gate {
							switch got := float64(v); {
							case math.IsNaN(want) != math.IsNaN(got):
								require.Failf(t, "NaN", "%v: act(%v, %v) is %v, want %v", i, g, u, v, want)
							case math.IsNaN(want) || v == float32(want):
							default:
								require.InDelta(t, want, got, 1e-5*max(1, math.Abs(want)), "%v: act(%v, %v), alpha %v, limit %v", i, g, u, alpha, limit)
							}
						}
					}
				}
			}
		}
	})
}
