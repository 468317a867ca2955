package attention

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// One key has all the weight: the output is its v, for every head of the group.
func TestOneKeyGivesItsValue(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		s := scenario{geometry: g, format: CacheF32, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, rows: 1}}}
		got, err := s.run(d)
		require.NoError(t, err)
		v := s.projected(0, 0)[(g.Heads+g.KVHeads)*g.HeadDim:]
		for h := range g.Heads {
			kv := h / (g.Heads / g.KVHeads)
			require.NoError(t, hiptest.Within(got.out[h*g.HeadDim:][:g.HeadDim], v[kv*g.HeadDim:][:g.HeadDim], 1e-7), "head %d", h)
		}
	})
}

// A norm weight of −1 makes all keys zero and all scores equal: the output is
// the mean of the visible v, whatever is selected.
func TestEqualScoresGiveTheMean(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		const position = 10
		hole := func(p int) bool { return p == 3 || p == 4 }
		s := scenario{geometry: g, format: CacheF32, learned: constantLearned(&g, 0, -1), spans: []scenarioSpan{{seed: 1, position: position, rows: 1, hole: hole}}}
		got, err := s.run(d)
		require.NoError(t, err)
		mean := make([]float32, g.HeadDim)
		for p := range position + 1 {
			v := s.projected(0, p)[(g.Heads+g.KVHeads)*g.HeadDim:]
			for i := range mean {
				if !hole(p) {
					mean[i] += v[i] / (position + 1 - 2)
				}
			}
		}
		require.NoError(t, hiptest.Within(got.out[:g.HeadDim], mean, 1e-6))
		for i, score := range got.scores {
			require.Zero(t, score, "score %d", i)
		}
		require.Equal(t, []int32{0, 1, 2, -1, 0, 1, 2, -1}, got.selected)
	})
}

// A key far ahead of the others takes all the weight without overflow.
func TestLargeScores(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		g.Rope.Frequencies = nil
		s := scenario{geometry: g, format: CacheF32, learned: constantLearned(&g, 1e4, 1e4), spans: []scenarioSpan{{seed: 1, position: 6, rows: 1}}}
		s.edit = func(_, position int, columns []float32) {
			for i := range (g.Heads + g.KVHeads) * g.HeadDim {
				columns[i] = 1
				if position != 4 && i >= g.Heads*g.HeadDim {
					columns[i] = -1
				}
			}
		}
		got, err := s.run(d)
		require.NoError(t, err)
		v := s.projected(0, 4)[(g.Heads+g.KVHeads)*g.HeadDim:][:g.HeadDim]
		require.NoError(t, hiptest.Within(got.out[:g.HeadDim], v, 1e-7))
	})
}

// Blocks that are not selected do not count, nor do selected ones after the row.
func TestOnlySelectedBlocksCount(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		c, err := NewCache(d, g, 1, 4, CacheF32)
		require.NoError(t, err)
		a, b, l := &arena{d: d}, NewBatch(c), constantLearned(&g, 0, -1)
		params, err := l.upload(a, &g)
		require.NoError(t, err)
		rows := randomValues(1, 1, 13*g.Columns())
		qkv := mustPut(t, a, rows)
		table := []int32{2, 0, 3, 1}
		require.NoError(t, b.Upload(Span{table: table, rows: 13}))
		require.NoError(t, Insert(b, 0, qkv, params))
		require.NoError(t, b.Upload(Span{table: table, position: 9, rows: 1}))
		selected := mustPut(t, a, []int32{1, 2, 3, -1, -1, -1, -1, -1})
		out := mustPut(t, a, make([]float32, g.Heads*g.HeadDim))
		require.NoError(t, Attend(b, 0, qkv, selected, out))
		mean := make([]float32, g.HeadDim)
		for _, p := range []int{4, 5, 6, 7, 8, 9} {
			for i := range mean {
				mean[i] += rows[p*g.Columns()+(g.Heads+g.KVHeads)*g.HeadDim+i] / 6
			}
		}
		got := get[float32](t, d, out, g.Heads*g.HeadDim)
		require.NoError(t, hiptest.Within(got[:g.HeadDim], mean, 1e-6))
		require.Equal(t, make([]float32, 3*g.HeadDim), got[3*g.HeadDim:], "KV head 1 has no selection, hence zeros")

		twice := mustPut(t, a, []int32{1, 2, 2, 2, 1, 1, 1, 1})
		require.ErrorIs(t, Attend(b, 0, qkv, twice, out), hip.ErrAccess, "more keys than there are")
		require.NoError(t, b.Close())
		require.NoError(t, a.close())
		require.NoError(t, c.Close())
	})
}

func TestBundleHeads(t *testing.T) {
	for _, test := range []struct{ group, blocks, threads, want int }{
		{16, 4, 1, 16}, {16, 4, 4, 16}, {16, 4, 8, 8}, {16, 4, 64, 4}, {16, 4, 1000, 4},
		{5, 2, 100, 3}, {4, 1, 100, 4}, {1, 1, 100, 1}, {16, 512, 100, 16},
	} {
		require.Equal(t, test.want, bundleHeads(test.group, test.blocks, test.threads), "%+v", test)
	}
}

// How a launch is cut does not change a bit.
func TestThreadsDoNotChangeResults(t *testing.T) {
	g := released()
	g.Heads = 16
	s := scenario{geometry: g, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, position: 300, rows: 1}}}
	var want *results
	for _, threads := range []int{1, 3, 8, 64} {
		d := hip.NewHost(threads)
		got, err := s.run(d)
		require.NoError(t, err)
		require.NoError(t, d.Close())
		if want == nil {
			want = got
		}
		require.Equal(t, want.out, got.out, "%d threads", threads)
		require.Equal(t, want.scores, got.scores, "%d threads", threads)
	}
}

func TestDots(t *testing.T) {
	for heads := range 10 {
		for _, dim := range []int{1, 2, 3, 16, 127, 128} {
			queries, key := randomValues(1, 1, heads*dim), randomValues(1, 2, dim)
			got, want := make([]float32, heads), make([]float32, heads)
			dots(got, queries, key)
			for h := range want {
				want[h] = float32(dot64(queries[h*dim:][:dim], key))
			}
			require.NoError(t, hiptest.Within(got, want, 1e-5*math.Sqrt(float64(dim))), "heads %d, dim %d", heads, dim)
		}
	}
}

func TestPartsOf(t *testing.T) {
	g := released() // 2 KV heads, 16 blocks of 128 keys
	wide := g
	wide.HeadDim = 136
	for _, test := range []struct {
		g       Geometry
		rows    int
		blocks  int
		kind    string
		threads int
		units   bool
		want    int
	}{
		{g, 1, 9, "cuda", 132, false, 32}, {g, 65, 9, "hip", 132, false, 32}, {g, 66, 9, "cuda", 132, false, 0}, {g, 31, 9, "cuda", 1, false, 32}, {g, 32, 9, "cuda", 1, false, 0},
		{tiny(), 1, 9, "hip", 100, false, 4}, {g, 1, 9, "cpu", 132, false, 0}, {g, 1, 9, "reference", 132, false, 0}, {wide, 1, 9, "cuda", 132, false, 0},
		{dense(g), 1, 9, "cuda", 132, false, 18}, {dense(g), 1, 128, "cuda", 132, false, 256}, {dense(g), 1, 129, "cuda", 132, false, 0},
		{g, 6, 9, "cuda", 132, true, 32}, {g, 7, 9, "cuda", 132, true, 0}, {g, 3, 9, "hip", 1, true, 0},
		{dense(g), 7, 32, "cuda", 132, true, 0}, {dense(g), 7, 33, "cuda", 132, true, 66}, {dense(g), 7, 129, "cuda", 132, true, 0},
	} {
		info := hip.Info{Kind: test.kind, Threads: test.threads, MatrixUnits: test.units}
		require.Equal(t, test.want, partsOf(&test.g, CacheBF16, test.rows, test.blocks, info), "%+v", test)
	}
}
