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

// TestTiledExpertsOnGPUs: experts that no pair picked, one pair, a tile of pairs, one
// more, and several tiles; columns beside every tile; and the kernels without tiles on
// the same pairs. Every launch is compared with its twin.
func TestTiledExpertsOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		testTiledExperts(t, d, weights.MXFP8, 96, 40)
		testTiledExperts(t, d, weights.BF16, 48, 70)
		testTiledExperts(t, d, weights.MXFP4, 96, 40)
		testTiledExperts(t, d, weights.NVFP4, 96, 40)
	})
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		testTiledExperts(t, d, weights.MXFP8, 96, 40)
		testTiledExperts(t, d, weights.NVFP4, 96, 40)
	}, matrixUnits...)
}

// pairsOf shuffles as many pairs of each expert as are given.
func pairsOf(rng *rand.Rand, each ...int) (ids []int32) {
	for e, n := range each {
		for range n {
			ids = append(ids, int32(e))
		}
	}
	rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// groupedPairs groups pairs by their experts, for a kernel that reads in columns of x.
func groupedPairs(t *testing.T, d hip.Device, ids []int32, experts, in, out int) expertsArgs {
	a := expertsArgs{
		Y: alloc(t, d, len(ids)*out), Pairs: int32(len(ids)), Experts: int32(experts), In: int32(in), Out: int32(out),
		Alpha: 1.702, Limit: 7, Beta: 1,
		Offsets: alloc(t, d, experts+1), Order: alloc(t, d, len(ids)), Active: alloc(t, d, experts), ActiveCount: alloc(t, d, 1),
	}
	require.NoError(t, launchGroupByExpert(d, &groupByExpertArgs{
		IDs: upload(t, d, ids), Offsets: a.Offsets, Order: a.Order, Active: a.Active, ActiveCount: a.ActiveCount,
		Pairs: a.Pairs, Experts: a.Experts, Held: a.Experts,
	}))
	return a
}

func testTiledExperts(t *testing.T, d hip.Device, format weights.Format, in, out int) {
	rng := rand.New(rand.NewPCG(9, 9))
	ids := pairsOf(rng, 0, 1, 16, 17, 100)
	pairs, experts := len(ids), 5
	const topK = 2
	checked := hip.Check(d)
	t.Run(fmt.Sprintf("%v, %dx%d", format, in, out), func(t *testing.T) {
		w13, w2 := random(rng, experts*2*out, in, 60, format), random(rng, experts*out, in, 60, format)
		x := randomValues(rng, pairs/topK*in)
		x[in+3] = float32(math.NaN())
		a := groupedPairs(t, checked, ids, experts, in, out)
		a.X, a.PairsPerX = upload(t, checked, x), topK
		if d.Info().Warpgroups {
			var room weights.SplitRows
			t.Cleanup(func() { require.NoError(t, room.Free(checked)) })
			parts, err := room.Split(checked, a.X, pairs, in, &weights.Picked{Order: a.Order, Count: a.Offsets.Add(4 * int64(experts)), PerX: topK})
			require.NoError(t, err)
			a.Codes = parts
		}
		of13, of2 := w13.upload(t, checked), w2.upload(t, checked)
		tiled := of13.Tiled(checked, a.X)
		require.Equal(t, tiled, of2.Tiled(checked, a.X))
		require.True(t, tiled || d.Info().Warpgroups)
		// The first, for one pair of an expert, takes the others in turn, and without tiles
		// the same pairs are up to 8 at a time.
		for _, kernels := range []struct {
			of []expertsKernel
			w  *weights.Matrix
		}{{expertsGateUp, of13}, {expertsDown, of2}} {
			wanted := []expertBlock{{rows: 1}, {rows: 2}}
			if tiled {
				wanted = append(wanted, expertBlock{rows: 2, x: 16}, expertBlock{rows: 2, x: 64})
			}
			if d.Info().Warpgroups {
				for _, x := range []int{32, 64, 96, 128} {
					wanted = append(wanted, expertBlock{rows: 2, x: x, warpgroups: true})
				}
			}
			for _, want := range wanted {
				k := hip.Choose(kernels.of, func(e *expertsKernel) bool {
					return e.rows == want.rows && e.x == want.x && e.warpgroups == want.warpgroups && !e.rounded && !e.stream
				})
				require.Equal(t, want.x, k.x)
				require.NoError(t, k.launch(checked, kernels.w, &a))
			}
		}
		y := read[float32](t, checked, a.Y, pairs*out)
		for pair, e := range ids {
			if pair/topK == 1 {
				require.True(t, math.IsNaN(float64(y[pair*out])), "pair %d of a row that is not a number", pair)
				continue
			}
			want := dots(w2.values[int(e)*out:][:out], x[pair/topK*in:][:in])
			for j := range out {
				require.InDelta(t, want[j], float64(y[pair*out+j]), 1e-3, "pair %d, column %d", pair, j)
			}
		}
	})
}
