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

// TestFewExpertsOnGPUs: experts with no pair, one, those that a kernel for few multiplies at a
// time, one more, and many; output columns beside a wave's; each tile of a block. Every launch
// is compared with its twin, and a row that is not a number spoils no other.
func TestFewExpertsOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		if d.Info().Warpgroups {
			testFewExperts(t, d, weights.MXFP8, 256, 43)
			testFewExperts(t, d, weights.BF16, 192, 24)
		}
	})
}

func testFewExperts(t *testing.T, d hip.Device, format weights.Format, in, out int) {
	const topK = 2
	rng := rand.New(rand.NewPCG(9, 10))
	ids := pairsOf(rng, 0, 1, 4, 5, 8, 9, 19)
	pairs, experts := len(ids), 7
	checked := hip.Check(d)
	t.Run(fmt.Sprintf("%v, %dx%d", format, in, out), func(t *testing.T) {
		x := randomValues(rng, pairs*in)
		x[3*in+3] = float32(math.NaN())
		a := groupedPairs(t, checked, ids, experts, in, out)
		a.X = upload(t, checked, x)
		for _, kernels := range []struct {
			of   []expertsKernel
			perX int32
		}{{expertsGateUp, topK}, {expertsDown, 1}} {
			k := hip.Choose(kernels.of, func(e *expertsKernel) bool { return e.few })
			w := randomParts(rng, experts*k.halves, out, in, format)
			m := w.upload(t, checked)
			a.PairsPerX = kernels.perX
			require.True(t, m.Few(checked, a.X, pairs, out))
			var room weights.SplitRows
			t.Cleanup(func() { require.NoError(t, room.Free(checked)) })
			var err error
			a.Codes, err = room.SplitFew(checked, m, a.X, pairs/int(a.PairsPerX))
			require.NoError(t, err)
			a.Weights, a.Segments = m.Table()
			for tile := 16 / k.halves; tile <= 128/k.halves; tile *= 2 {
				a.Tile = int64(tile)
				require.NoError(t, k.Launch(checked, hip.Grid{Blocks: experts * tiles(out, tile)}, &a))
			}
			if k.halves == 2 {
				continue // only its twin says what act makes of it
			}
			y := read[float32](t, checked, a.Y, pairs*out)
			for pair, e := range ids {
				want := dots(w.values[int(e)*out:][:out], x[pair*in:][:in])
				for j := range out {
					if pair == 3 {
						require.True(t, math.IsNaN(float64(y[pair*out+j])))
						continue
					}
					require.InDelta(t, want[j], float64(y[pair*out+j]), 2e-3, "pair %d, column %d", pair, j)
				}
			}
		}
	})
}

// TestFewSharedExpertOnGPUs: each number of rows around those of the kernels, and columns
// beside a wave's.
func TestFewSharedExpertOnGPUs(t *testing.T) {
	const in, out = 256, 43
	rng := rand.New(rand.NewPCG(9, 11))
	w := randomParts(rng, 2, out, in, weights.MXFP8)
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		if !d.Info().Warpgroups {
			return
		}
		checked := hip.Check(d)
		m := w.upload(t, checked)
		for _, rows := range []int{2, 4, 5, 8, 9, 16} {
			var room weights.SplitRows
			x := upload(t, checked, randomValues(rng, rows*in))
			parts, err := room.SplitFew(checked, m, x, rows)
			require.NoError(t, err)
			require.NoError(t, launchGateUpSwiGLU(checked, m, inRows, &gateUpSwiGLUArgs{
				X: x, Parts: parts, Y: alloc(t, checked, rows*out), Alpha: 1.702, Limit: 7, Beta: 1, Rows: int32(rows), In: in, Out: out,
			}), "%d rows", rows)
			require.NoError(t, room.Free(checked))
		}
	})
}

// randomParts stores parts of rows × cols values below 1.
func randomParts(rng *rand.Rand, parts, rows, cols int, f weights.Format) *stored {
	s := &stored{cols: cols}
	for range parts {
		scales := rows * scalesOf(f, cols)
		data, scale := randomRows(rng, f, rows*cols, rows*tiles(cols, 32))
		s.add(f, rows, data, scale[:scales])
	}
	return s
}
