package moe

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// fewDown is the kernel of expertsDown for a few pairs of an expert, and expertsDownTail
// is it called for the blocks from tailFirst only.
var (
	fewDown         = hip.Choose(expertsDown, func(e *expertsKernel) bool { return e.rows == 2 && e.x == 0 })
	expertsDownTail = hip.NewKernel("test_experts_down_tail", "", func(b *hip.Blocks, a *expertsArgs) {
		b.First = tailFirst
		fewDown.down(definition)(b, a)
	})
)

const tailFirst = 4

// TestExpertsBlocks: a block writes its own tile for its own expert and nothing
// else, and blocks beyond the active experts write nothing.
func TestExpertsBlocks(t *testing.T) {
	const experts, pairs, in, out, perExpert, poison = 5, 6, 3, 40, 3, -77
	rng := rand.New(rand.NewPCG(15, 15))
	w2 := random(rng, experts*out, in, 50, weights.F32)
	x := randomValues(rng, pairs*in)
	ids := []int32{4, 1, 4, 2, 4, 1} // active: 1, 2, 4
	slots := map[int32]int{1: 0, 2: 1, 4: 2}
	poisoned := make([]float32, pairs*out)
	for i := range poisoned {
		poisoned[i] = poison
	}
	for _, c := range []struct {
		name       string
		kernel     *hip.KernelOf[expertsArgs]
		first, end int
	}{
		{"all", fewDown.KernelOf, 0, experts * perExpert},
		{"the first", fewDown.KernelOf, 0, 1},
		{"some of the second expert", fewDown.KernelOf, 0, 5},
		{"from the second expert's second tile to the third's first", expertsDownTail, tailFirst, 7},
		{"from there on", expertsDownTail, tailFirst, experts * perExpert},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := hip.NewReference()
			a := expertsArgs{
				X: upload(t, d, x), Y: upload(t, d, poisoned), Pairs: pairs, PairsPerX: 1, Experts: experts, In: in, Out: out, Tile: int64(fewDown.tile),
				Offsets: alloc(t, d, experts+1), Order: alloc(t, d, pairs), Active: alloc(t, d, experts), ActiveCount: alloc(t, d, 1),
			}
			require.NoError(t, launchGroupByExpert(d, &groupByExpertArgs{
				IDs: upload(t, d, ids), Offsets: a.Offsets, Order: a.Order, Active: a.Active, ActiveCount: a.ActiveCount,
				Pairs: pairs, Experts: experts, Held: experts,
			}))
			m := w2.upload(t, d)
			a.Weights, a.Segments = m.Table()
			require.NoError(t, c.kernel.Launch(d, hip.Grid{Blocks: c.end}, &a))
			y := read[float32](t, d, a.Y, pairs*out)
			for pair, e := range ids {
				want := dots(w2.values[int(e)*out:][:out], x[pair*in:][:in])
				for j := range out {
					block := slots[e]*perExpert + j/fewDown.tile
					if block < c.first || block >= c.end {
						want[j] = poison
					}
					require.InDelta(t, want[j], float64(y[pair*out+j]), 1e-6, "pair %d, column %d", pair, j)
				}
			}
		})
	}
}

// TestLaunchExpertsGrid: there is a slot for every expert that can be picked, and no more.
func TestLaunchExpertsGrid(t *testing.T) {
	for _, c := range []struct {
		name           string
		experts, pairs int32
		out            int32
		blocks, tile   int
	}{
		{"a row picks few experts", 128, 4, 6144, 4 * 192, 32},
		{"many rows pick all", 128, 2048, 6144, 128 * 192, 32},
		{"a column beyond a tile", 3, 9, 17, 3 * 2, 16},
		{"one column", 1, 1, 1, 1, 16},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &gridRecorder{Device: hip.NewReference()}
			w := exact([]float32{1, 2}).upload(t, d)
			require.NoError(t, launchExperts(d, expertsDown, w, 2, int(c.pairs), asIs, &expertsArgs{Experts: c.experts, Pairs: c.pairs, Out: c.out}))
			require.Equal(t, c.blocks, d.grid.Blocks)
			require.Equal(t, c.tile*8, d.grid.BlockCost, "bytes of the weights of a block")
		})
	}
}
