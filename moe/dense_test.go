package moe

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

func denseConfig(hidden, width int) Config {
	return Config{Hidden: hidden, SharedIntermediate: width, Alpha: 1.702, Limit: 0.75, Beta: 1}
}

// dense runs e, a dense MLP, with a workspace that an expert layer may have used.
func dense(t *testing.T, d hip.Device, e *Experts, ws *Workspace, x, residual []float32) (hidden, shared, out []float32) {
	t.Helper()
	p := alloc(t, d, len(x))
	require.NoError(t, e.Forward(d, ws, p, upload(t, d, residual), upload(t, d, x), len(x)/e.config.Hidden))
	for _, name := range []string{"router_scores", "expert_ids", "expert_weights", "moe_routed_out"} {
		require.Zero(t, ws.Stage(name), name)
	}
	return read[float32](t, d, p, len(x)), read[float32](t, d, ws.Stage("shared_out"), len(x)), read[float32](t, d, ws.Stage("moe_out"), len(x))
}

// TestDenseMatchesNaive: hidden = residual + the shared expert, with columns beyond the
// first tile of the sum.
func TestDenseMatchesNaive(t *testing.T) { onEach(t, testDenseMatchesNaive) }

func TestDenseMatchesNaiveOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { testDenseMatchesNaive(t, hip.Check(d)) })
}

func testDenseMatchesNaive(t *testing.T, d hip.Device) {
	for _, c := range []Config{denseConfig(1, 1), denseConfig(33, 17), denseConfig(64, 96), denseConfig(2100, 3)} {
		for _, rows := range []int{1, 3, 65} {
			t.Run(fmt.Sprintf("%dx%d, %d rows", c.Hidden, c.SharedIntermediate, rows), func(t *testing.T) {
				rng := rand.New(rand.NewPCG(3, uint64(c.Hidden)))
				m := randomMixture(rng, Config{Hidden: c.Hidden, SharedIntermediate: c.SharedIntermediate, Intermediate: 1, Experts: 1, TopK: 1, Limit: c.Limit, Alpha: c.Alpha, Beta: c.Beta}, weights.MXFP8, weights.BF16)
				x, residual := randomValues(rng, rows*c.Hidden), randomValues(rng, rows*c.Hidden)
				want := m.forwardNaive(x, residual) // of experts whose weight, Scale, is 0
				e := &Experts{gateUp: m.gateUp.upload(t, d), down: m.down.upload(t, d), config: c}
				ws := Workspace{observe: true}
				hidden, shared, out := dense(t, d, e, &ws, x, residual)
				require.NoError(t, ws.Free(d))
				require.NoError(t, hiptest.Within(hidden, want.hidden, 1e-5))
				require.NoError(t, hiptest.Within(shared, want.shared, 1e-5))
				require.Equal(t, shared, out)
			})
		}
	}
}

// TestDenseAfterExperts: layers of both kinds may share a workspace.
func TestDenseAfterExperts(t *testing.T) {
	onEach(t, func(t *testing.T, d hip.Device) {
		rng := rand.New(rand.NewPCG(4, 4))
		m := randomMixture(rng, validConfig(), weights.F32)
		x, residual := randomValues(rng, 3*8), randomValues(rng, 3*8)
		e := m.upload(t, d)
		mlp := &Experts{gateUp: e.gateUp, down: e.down, config: denseConfig(8, 6)}
		alone := Workspace{observe: true}
		wantHidden, _, _ := dense(t, d, mlp, &alone, x, residual)
		require.NoError(t, alone.Free(d))
		want := m.forward(t, d, x, residual)

		var ws Workspace
		require.NoError(t, ws.Reserve(d, &e.config, 3, true))
		p := alloc(t, d, 3*8)
		for range 2 {
			require.NoError(t, e.Forward(d, &ws, p, upload(t, d, residual), upload(t, d, x), 3))
			require.Equal(t, want.hidden, read[float32](t, d, p, 3*8))
			require.Equal(t, want.ids, read[int32](t, d, ws.Stage("expert_ids"), 3*2))
			hidden, _, _ := dense(t, d, mlp, &ws, x, residual)
			require.Equal(t, wantHidden, hidden)
		}
		require.NoError(t, ws.Free(d))
	})
}

func TestNewExpertsDense(t *testing.T) {
	asked := map[string]*weights.Matrix{}
	e := NewExperts(denseConfig(8, 6), func(name string) *weights.Matrix { asked[name] = nil; return nil }, 0)
	require.Equal(t, map[string]*weights.Matrix{nameGateUp: nil, nameDown: nil}, asked)
	d := noLaunches{hip.NewReference()}
	x := alloc(t, d, 8)
	require.EqualError(t, e.Forward(d, new(Workspace), x, x, x, 1), `moe: forward: shared_experts.gate_up_proj.weight is missing, want 12 × 8
moe: forward: shared_experts.down_proj.weight is missing, want 8 × 6`)
	e.bias = x
	require.ErrorContains(t, e.Forward(d, new(Workspace), x, x, x, 1), "e_score_correction_bias is an address, want none, since Experts is 0")
}
