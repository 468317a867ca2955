package moe

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// TestForwardOnGPUs compares with a row-by-row computation, and every launch with its
// twin: rows around what is multiplied together, columns beside every tile.
func TestForwardOnGPUs(t *testing.T) {
	mixed := []weights.Format{weights.MXFP8, weights.BF16, weights.F32}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for _, c := range []struct {
			config  Config
			rows    []int
			formats []weights.Format
		}{
			{Config{Hidden: 1, Intermediate: 1, SharedIntermediate: 1, Experts: 1, TopK: 1}, []int{1, 2}, mixed},
			{Config{Hidden: 64, Intermediate: 32, SharedIntermediate: 48, Experts: 16, TopK: 4}, []int{1, 2, 3, 9, 37}, []weights.Format{weights.MXFP8}},
			{Config{Hidden: 70, Intermediate: 33, SharedIntermediate: 17, Experts: 5, TopK: 2}, []int{1, 7}, mixed},
			{Config{Hidden: 1100, Intermediate: 5, SharedIntermediate: 3, Experts: 3, TopK: 3}, []int{2}, mixed},
		} {
			c.config.Scale, c.config.Alpha, c.config.Limit, c.config.Beta = 2, 1.702, 0.75, 1
			rng := rand.New(rand.NewPCG(6, uint64(c.config.Hidden)))
			m := randomMixture(rng, c.config, c.formats...)
			for _, rows := range c.rows {
				x, residual := randomValues(rng, rows*c.config.Hidden), randomValues(rng, rows*c.config.Hidden)
				t.Run(fmt.Sprintf("%d of %d experts %dx%d, %d rows", c.config.TopK, c.config.Experts, c.config.Hidden, c.config.Intermediate, rows), func(t *testing.T) {
					requireClose(t, m.forward(t, checked, x, residual), m.forwardNaive(x, residual), 1e-5)
				})
			}
		}
	})
}

// matrixUnits are architectures of AMD that multiply matrices in ways of their own.
var matrixUnits = []string{"gfx906", "gfx1030", "gfx1100", "gfx1200", "gfx950"}

// TestTiledSharedExpertOnArchitectures: rows and columns beside the tiles of either kernel.
func TestTiledSharedExpertOnArchitectures(t *testing.T) {
	const in, out = 48, 80
	rng := rand.New(rand.NewPCG(6, 1))
	w := random(rng, 2*out, in, 40, weights.MXFP8)
	reference := hip.NewReference()
	t.Cleanup(func() { require.NoError(t, reference.Close()) })
	for _, rows := range []int{12, 37} {
		x := randomValues(rng, rows*in)
		run := func(t *testing.T, d hip.Device) []float32 {
			a := gateUpSwiGLUArgs{
				X: upload(t, d, x), Y: alloc(t, d, rows*out), Alpha: 1.702, Limit: 7, Beta: 1,
				Rows: int32(rows), In: in, Out: out,
			}
			require.NoError(t, launchGateUpSwiGLU(d, w.upload(t, d), asIs, &a))
			return read[float32](t, d, a.Y, rows*out)
		}
		want := run(t, reference)
		t.Run(fmt.Sprintf("%d rows", rows), func(t *testing.T) {
			_, _, maxError := weights.TileOf(64)
			hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
				require.NoError(t, hiptest.Within(run(t, d), want, maxError))
			}, matrixUnits...)
		})
	}
}

// TestRouteOnGPUs: choices are those of the reference, with ties, NaN and infinities,
// and more experts than a block has threads.
func TestRouteOnGPUs(t *testing.T) {
	special := []float32{0, 1, 1, -1, 60, 50, float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1e-5}
	reference := hip.NewReference()
	defer reference.Close()
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		rng := rand.New(rand.NewPCG(7, 7))
		for _, experts := range []int{1, 5, 63, 64, 65, 128, 300} {
			const rows = 9
			logits, bias := randomValues(rng, rows*experts), randomValues(rng, experts)
			for i := range logits[experts:] { // the first row stays as it is
				if rng.IntN(2) == 0 {
					logits[experts+i] = special[rng.IntN(len(special))]
				}
			}
			for e := range bias {
				if rng.IntN(4) == 0 {
					bias[e] = special[rng.IntN(len(special))]
				}
			}
			k := min(experts, 6)
			_, _, want := runRoute(t, reference, logits, bias, k, 2)
			_, _, got := runRoute(t, checked, logits, bias, k, 2)
			require.Equal(t, want, got, "%d experts", experts)
		}
	})
}

// TestGroupOnGPUs: pairs and experts around the threads of the block and its
// waves, evenly spread and all of one expert.
func TestGroupOnGPUs(t *testing.T) {
	reference := hip.NewReference()
	defer reference.Close()
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		rng := rand.New(rand.NewPCG(8, 8))
		for _, experts := range []int{1, 4, 128, 256, 257, 600} {
			for _, pairs := range []int{1, 4, 31, 32, 33, 64, 65, 255, 256, 257, 1030} {
				for _, picked := range []int{1, experts} {
					ids := make([]int32, pairs)
					for i := range ids {
						ids[i] = int32(experts - 1 - rng.IntN(picked))
					}
					want, got := runGroup(t, reference, ids, experts), runGroup(t, checked, ids, experts)
					require.Equal(t, want, got, "%d pairs, %d of %d experts", pairs, picked, experts)
					first := rng.IntN(experts)
					held := 1 + rng.IntN(experts-first)
					want, got = runGroupHeld(t, reference, ids, experts, first, held), runGroupHeld(t, checked, ids, experts, first, held)
					require.Equal(t, want, got, "%d pairs, %d of %d experts, held %d from %d", pairs, picked, experts, held, first)
				}
			}
		}
	})
}
