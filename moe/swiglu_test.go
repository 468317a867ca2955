package moe

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

func TestSwiGLU(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	released := swiGLU{alpha: 1.702, limit: 7, beta: 1}
	for _, c := range []struct {
		name     string
		act      swiGLU
		gate, up float32
		want     float64
	}{
		{"zero gate", released, 0, 5, 0},
		{"up cancels beta", released, 3, -1, 0},
		{"sigmoid of 0 is half", swiGLU{alpha: 0, limit: 7, beta: 1}, 4, 2, 4 * 0.5 * 3},
		{"formula", released, 1, 2, 3 / (1 + math.Exp(-1.702))},
		{"negative gate", released, -2, 2, -6 / (1 + math.Exp(2*1.702))},
		{"gate at the limit", released, 7, 0, 7 / (1 + math.Exp(-7*1.702))},
		{"gate over the limit", released, 100, 0, 7 / (1 + math.Exp(-7*1.702))},
		{"gate under -limit is not limited", swiGLU{alpha: 0.01, limit: 7, beta: 1}, -100, 0, -100 / (1 + math.E)},
		{"up over the limit", released, 1, 100, 8 / (1 + math.Exp(-1.702))},
		{"up under -limit", released, 1, -100, -6 / (1 + math.Exp(-1.702))},
		{"limit of its own", swiGLU{alpha: 0, limit: 0.5, beta: 0}, 9, -9, -0.125},
		{"no limit", swiGLU{alpha: 0, limit: math.Inf(1), beta: 0}, 100, -100, -5000},
		{"beta", swiGLU{alpha: 0, limit: 7, beta: -0.25}, 1, 1, 0.375},
		{"far negative gate is zero, not NaN", released, -1e30, 1, 0},
		{"infinite gate is limited", released, inf, 0, 7 / (1 + math.Exp(-7*1.702))},
		{"infinite up is limited", released, 1, -inf, -6 / (1 + math.Exp(-1.702))},
		{"NaN gate", released, nan, 1, math.NaN()},
		{"NaN up", released, 1, nan, math.NaN()},
		{"NaN up at zero gate", released, 0, nan, math.NaN()},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := map[string]float32{"definition": c.act.activate64(c.gate, c.up)}
			for _, simd := range hip.SIMDLevels() {
				gate, up := make([]float32, 37), make([]float32, 37)
				for i := range gate {
					gate[i], up[i] = c.gate, c.up
				}
				c.act.activate(simd, gate, up)
				for i, v := range gate {
					all[fmt.Sprint(simd, " ", i)] = v
				}
			}
			for name, got := range all {
				if math.IsNaN(c.want) {
					require.True(t, math.IsNaN(float64(got)), "%s: %v", name, got)
					continue
				}
				require.InDelta(t, c.want, float64(got), 3e-7*math.Max(1, math.Abs(c.want)), name)
			}
		})
	}
}

// TestSwiGLUHostIsClose compares over the range that matters, and beyond both limits.
func TestSwiGLUHostIsClose(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, act := range []swiGLU{{1.702, 7, 1}, {1.3, 2.7, 0.1}, {-0.9, 11.3, -2}} {
		t.Run(fmt.Sprint(act), func(t *testing.T) {
			gate, up := make([]float32, 20_000), make([]float32, 20_000)
			for i := range gate {
				gate[i], up[i] = float32(rng.NormFloat64()*6), float32(rng.NormFloat64()*6)
			}
			for _, simd := range hip.SIMDLevels() {
				got := slices.Clone(gate)
				act.activate(simd, got, up)
				for i, v := range got {
					want := float64(act.activate64(gate[i], up[i]))
					require.InDelta(t, want, float64(v), 1e-6*math.Max(1, math.Abs(want)), "%v: act(%v, %v)", simd, gate[i], up[i])
				}
			}
		})
	}
}
