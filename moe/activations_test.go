package moe

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// TestActivations: a Forward that rounds its rows to MXFP8 equals the formulas with them
// rounded, from 5 rows on; with fewer, it equals the one that does not round, bit for bit.
func TestActivations(t *testing.T) {
	exact := Config{Hidden: 64, Intermediate: 32, SharedIntermediate: 96, Experts: 8, TopK: 2, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1}
	rounding := exact
	rounding.Activations = hip.ActivationsMXFP8
	inputs := map[int][2][]float32{} // x and residual of so many rows
	rng := rand.New(rand.NewPCG(50, 1))
	m := randomMixture(rng, exact, weights.MXFP8)
	for _, rows := range []int{4, 5, 20, 70} {
		inputs[rows] = [2][]float32{randomValues(rng, rows*exact.Hidden), randomValues(rng, rows*exact.Hidden)}
	}
	test := func(t *testing.T, d hip.Device, bound float64) {
		for rows, in := range inputs {
			m.config = exact
			plain := m.forward(t, d, in[0], in[1])
			m.config = rounding
			got, want := m.forward(t, d, in[0], in[1]), m.forwardNaive(in[0], in[1])
			requireClose(t, got, want, bound)
			if rows < 5 {
				require.Equal(t, plain, got)
				continue
			}
			require.Error(t, hiptest.Within(got.routed, plain.routed, 1e-3), "%d rows are not rounded", rows)
			require.Error(t, hiptest.Within(got.shared, plain.shared, 1e-3), "%d rows are not rounded", rows)
			require.NoError(t, hiptest.Within(got.moeOut, plain.moeOut, 0.1))
		}
	}
	for name, open := range devices {
		t.Run(name, func(t *testing.T) {
			d := open()
			t.Cleanup(func() { require.NoError(t, d.Close()) })
			test(t, d, 1e-5)
		})
	}
	onGPU := func(t *testing.T, d hip.Device) { test(t, hip.Check(d), 1e-4) }
	hiptest.OnGPUs(t, onGPU)
	hiptest.OnGPUs(t, onGPU, "gfx950")
}

// TestActivationsOfOtherWeights: matrices that are not MXFP8 throughout multiply what is not
// rounded; of the down rows of the shared expert those that are multiply what is.
func TestActivationsOfOtherWeights(t *testing.T) {
	const rows = 6
	c := Config{Hidden: 32, Intermediate: 32, SharedIntermediate: 32, Experts: 3, TopK: 2, Scale: 1, Alpha: 1, Limit: 7}
	rng := rand.New(rand.NewPCG(50, 2))
	d := hip.NewReference()
	for _, formats := range [][]weights.Format{{weights.BF16}, {weights.F32, weights.MXFP8}} {
		m := randomMixture(rng, c, formats...)
		x, residual := randomValues(rng, rows*c.Hidden), randomValues(rng, rows*c.Hidden)
		m.config.Activations = hip.ActivationsExact
		plain := m.forward(t, d, x, residual)
		m.config.Activations = hip.ActivationsMXFP8
		got := m.forward(t, d, x, residual)
		require.Equal(t, plain.routed, got.routed)
		if len(formats) == 1 {
			require.Equal(t, plain.shared, got.shared)
		} else {
			require.NotEqual(t, plain.shared, got.shared)
		}
	}
	m := randomMixture(rng, c, weights.MXFP8)
	m.config.Activations = 9
	var ws Workspace
	err := ws.Reserve(d, &m.config, rows, false)
	require.ErrorIs(t, err, hip.ErrInput)
	require.ErrorContains(t, err, "Activations is Activations(9), want ActivationsExact or ActivationsMXFP8")
}
