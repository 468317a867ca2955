package attention

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// selectOn selects for one row whose sequence has as many blocks as there are
// scores, for one index head.
func selectOn(t *testing.T, d hip.Device, g Geometry, scores []float32, presence []uint32) []int32 {
	t.Helper()
	g.Heads, g.KVHeads = 1, 1
	c, err := NewCache(d, g, 1, len(scores), CacheF32)
	require.NoError(t, err)
	a, b := &arena{d: d}, NewBatch(c)
	table := make([]int32, len(scores))
	for i := range table {
		table[i] = int32(i)
	}
	require.NoError(t, b.Upload(Span{table: table, presence: presence, position: len(scores)*g.BlockSize - 1, rows: 1}))
	selected := mustPut(t, a, make([]int32, g.TopkBlocks))
	require.NoError(t, Select(b, mustPut(t, a, scores), selected))
	got := get[int32](t, d, selected, g.TopkBlocks)
	require.NoError(t, b.Close())
	require.NoError(t, a.close())
	require.NoError(t, c.Close())
	return got
}

func TestSelect(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	tests := []struct {
		name              string
		topk, init, local int
		scores            []float32
		absent            []int // blocks without a key
		want              []int32
	}{
		{"best", 2, 0, 0, []float32{1, 5, 3, 4}, nil, []int32{1, 3}},
		{"local block", 2, 0, 1, []float32{1, 5, 3, 0}, nil, []int32{1, 3}},
		{"local blocks", 3, 0, 2, []float32{1, 2, 9, 0, 0}, nil, []int32{2, 3, 4}},
		{"init block", 2, 1, 0, []float32{0, 5, 3, 4}, nil, []int32{0, 1}},
		{"init and local", 3, 1, 1, []float32{0, 5, 9, 4, 0}, nil, []int32{0, 2, 4}},
		{"own block not forced", 1, 0, 0, []float32{1, 0}, nil, []int32{0}},
		{"init before local", 3, 2, 3, []float32{0, 0, 9, 0, 0, 0}, nil, []int32{0, 1, 5}},
		{"init takes all", 2, 5, 3, []float32{0, 0, 9, 0, 0, 0}, nil, []int32{0, 1}},
		{"init and local overlap", 4, 2, 3, []float32{0, 0, 0}, nil, []int32{0, 1, 2, -1}},
		{"fewer blocks than chosen", 5, 0, 1, []float32{3, 1, 2}, nil, []int32{0, 1, 2, -1, -1}},
		{"ties: the lower block", 2, 0, 0, []float32{1, 7, 7, 7}, nil, []int32{1, 2}},
		{"all equal", 3, 0, 1, []float32{2, 2, 2, 2, 2}, nil, []int32{0, 1, 4}},
		{"signed zeros are equal", 1, 0, 0, []float32{float32(math.Copysign(0, -1)), 0}, nil, []int32{0}},
		{"NaN after every number", 2, 0, 0, []float32{nan, -inf, -1, nan}, nil, []int32{1, 2}},
		{"NaN when there is room", 3, 0, 0, []float32{nan, nan, -1, nan}, nil, []int32{0, 1, 2}},
		{"NaN may be forced", 2, 0, 1, []float32{1, 2, nan}, nil, []int32{1, 2}},
		{"infinities", 2, 0, 0, []float32{inf, -inf, inf, 0}, nil, []int32{0, 2}},
		{"absent blocks are not candidates", 3, 0, 0, []float32{-inf, 1, -inf, 3, 4}, []int{0, 2}, []int32{1, 3, 4}},
		{"first candidate is forced", 2, 1, 0, []float32{-inf, 1, 5, 3}, []int{0}, []int32{1, 2}},
		{"last candidates are forced", 2, 0, 2, []float32{9, 1, -inf, -inf, 0}, []int{2, 3}, []int32{1, 4}},
		{"too few candidates", 3, 1, 1, []float32{-inf, -inf, -inf, 0}, []int{0, 1, 2}, []int32{3, -1, -1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := tiny()
			g.TopkBlocks, g.InitBlocks, g.LocalBlocks = test.topk, test.init, test.local
			var presence []uint32
			if test.absent != nil {
				for block := range test.scores {
					if !slices.Contains(test.absent, block) { // one key is enough, but the row's own must be there
						last := (block + 1) * g.BlockSize
						presence = fillBits(presence, last-1, last)
					}
				}
			}
			forEachDevice(t, func(t *testing.T, d hip.Device) {
				require.Equal(t, test.want, selectOn(t, d, g, test.scores, presence))
			})
		})
	}
}

// Long random rows, with ties, NaN and infinities, against the choice made one
// block at a time.
func TestSelectOfManyBlocks(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, blocks := range []int{15, 16, 17, 100, 4096} {
		for _, levels := range []int{2, 10, 1 << 20} {
			g := released()
			g.BlockSize, g.InitBlocks, g.LocalBlocks = 4, r.IntN(3), r.IntN(3)
			scores, candidates := make([]float32, blocks), make([]int, blocks)
			wide := make([]float64, blocks)
			for i := range scores {
				scores[i] = float32(r.IntN(levels))
				switch r.IntN(20) {
				case 0:
					scores[i] = float32(math.NaN())
				case 1:
					scores[i] = float32(math.Inf(-1))
				}
				wide[i], candidates[i] = float64(scores[i]), i
			}
			want := make([]int32, g.TopkBlocks)
			for i := range want {
				want[i] = -1
			}
			for i, block := range naiveSelect(&g, candidates, wide) {
				want[i] = int32(block)
			}
			forEachDevice(t, func(t *testing.T, d hip.Device) {
				require.Equal(t, want, selectOn(t, d, g, scores, nil), "blocks %d, levels %d", blocks, levels)
			})
		}
	}
}

// While every block fits the scores are not needed.
func TestSelectWithoutScores(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	c := newCache(t, d, g, 1, 5, CacheF32)
	a, b := &arena{d: d}, NewBatch(c)
	table := []int32{0, 1, 2, 3, 4}
	selected := mustPut(t, a, make([]int32, 2*g.TopkBlocks))
	require.NoError(t, b.Upload(Span{table: table, position: 11, rows: 1}))
	require.NoError(t, Select(b, 0, selected))
	require.Equal(t, []int32{0, 1, 2, -1, 0, 1, 2, -1}, get[int32](t, d, selected, 8))
	require.NoError(t, b.Upload(Span{table: table, position: 19, rows: 1}))
	require.ErrorIs(t, Select(b, 0, selected), hip.ErrInput)
	require.NoError(t, c.Close())
}
