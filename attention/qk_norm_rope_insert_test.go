package attention

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/vec"
)

// At position 0 nothing turns: q and k are their norms, v stays.
func TestInsertAtPositionZeroIsTheNorm(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := tiny()
		s := scenario{geometry: g, format: CacheF32, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 3, rows: 1}}}
		got, err := s.run(d)
		require.NoError(t, err)
		want := s.projected(0, 0)
		at := 0
		for _, part := range []struct {
			heads, dim int
			weight     []float32
		}{
			{g.Heads, g.HeadDim, s.learned.qNorm}, {g.KVHeads, g.HeadDim, s.learned.kNorm}, {g.KVHeads, g.HeadDim, nil},
			{g.KVHeads, g.IndexDim, s.learned.indexQNorm}, {1, g.IndexDim, s.learned.indexKNorm},
		} {
			for range part.heads {
				x := want[at : at+part.dim]
				if part.weight != nil {
					vec.RMS64(x, x, part.weight, g.Eps)
				}
				at += part.dim
			}
		}
		require.NoError(t, hiptest.Within(got.qkv, want, 1e-6))
	})
}

// Equal vectors at any two positions: q·k depends on the distance alone, even
// near a million positions.
func TestRotationDependsOnDistance(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		g := released()
		g.Heads, g.KVHeads = 1, 1
		c, err := NewCache(d, g, 1, 1, CacheBF16)
		require.NoError(t, err)
		a := &arena{d: d}
		b := NewBatch(c)
		l := constantLearned(&g, 0, 0)
		params, err := l.upload(a, &g)
		require.NoError(t, err)
		table := make([]int32, 1<<20/g.BlockSize) // the one page, over and over
		rotated := func(position int) (q, k []float32) {
			row := randomValues(1, 1, g.Columns())
			p := mustPut(t, a, row)
			require.NoError(t, b.Upload(Span{table: table, position: position, rows: 1}))
			require.NoError(t, Insert(b, 0, p, params))
			row = get[float32](t, d, p, len(row))
			return row[:128], row[128:256]
		}
		const distance = 37
		q, _ := rotated(distance)
		_, k := rotated(0)
		want := dot64(q, k)
		for _, start := range []int{1, 1000, 500_000, 1<<20 - 1 - distance} {
			q, _ := rotated(start + distance)
			_, k := rotated(start)
			require.InDelta(t, want, dot64(q, k), 1e-4, "start %d", start)
			require.InEpsilon(t, 128, dot64(q, q), 1e-4, "a rotation keeps lengths")
		}
		require.NoError(t, b.Close())
		require.NoError(t, a.close())
		require.NoError(t, c.Close())
	})
}

// What is inserted is found at the row's slot of its page, rounded once more.
func TestInsertFillsTheSlot(t *testing.T) {
	for _, format := range cacheFormatsTested {
		forEachDevice(t, func(t *testing.T, d hip.Device) {
			g := tiny()
			c, err := NewCache(d, g, 2, 5, format)
			require.NoError(t, err)
			if format.scaled() {
				require.NoError(t, c.SetScales(1, testKeyScale, testValueScale))
			}
			a, b, l := &arena{d: d}, NewBatch(c), randomLearned(&g)
			params, err := l.upload(a, &g)
			require.NoError(t, err)
			p := mustPut(t, a, randomValues(5, 5, 2*g.Columns()))
			// Positions 7 and 8: the last slot of page 3, the first of page 1.
			require.NoError(t, b.Upload(Span{table: []int32{0, 3, 1}, position: 7, rows: 2}))
			require.NoError(t, Insert(b, 1, p, params))
			rows := get[float32](t, d, p, 2*g.Columns())
			for row, slot := range []int{3*4 + 3, 1 * 4} {
				columns := rows[row*g.Columns():][:g.Columns()]
				for head := range g.KVHeads {
					at := ((slot/4)*g.KVHeads+head)*4 + slot%4
					requireStored(t, d, c.layers[1].keys, at, columns[(g.Heads+head)*g.HeadDim:][:g.HeadDim], format.keys(), testKeyScale)
					requireStored(t, d, c.layers[1].values, at, columns[(g.Heads+g.KVHeads+head)*g.HeadDim:][:g.HeadDim], format.keys(), testValueScale)
				}
				requireStored(t, d, c.layers[1].indexKeys, slot, columns[g.Columns()-g.IndexDim:], format.indexKeys(), 1)
			}
			for _, p := range []hip.Ptr{c.layers[0].keys, c.layers[0].values, c.layers[0].indexKeys} {
				for _, v := range get[uint8](t, d, p, 5*g.BlockSize*g.IndexDim) {
					require.Zero(t, v, "the other layer is untouched")
				}
			}
			require.NoError(t, b.Close())
			require.NoError(t, a.close())
			require.NoError(t, c.Close())
		})
	}
}

func requireStored(t *testing.T, d hip.Device, p hip.Ptr, vector int, want []float32, e element, scale float32) {
	t.Helper()
	at := p.Add(int64(vector) * int64(len(want)) * elementBytes(e))
	switch e {
	case CacheF32:
		require.Equal(t, want, get[float32](t, d, at, len(want)))
	case CacheFP8:
		for i, v := range get[hip.E4M3](t, d, at, len(want)) {
			require.Equal(t, hip.ToE4M3(want[i]/scale), v, "value %d", i)
		}
	default:
		for i, v := range get[hip.BF16](t, d, at, len(want)) {
			require.Equal(t, hip.ToBF16(want[i]), v, "value %d", i)
		}
	}
}

func TestRefusedOperations(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	g := tiny()
	c, err := NewCache(d, g, 2, 4, CacheF32)
	require.NoError(t, err)
	b := NewBatch(c)
	full := Params{64, 64, 64, 64}
	ok := hip.Ptr(64)
	require.NoError(t, errors.Join(Insert(b, 0, 0, Params{}), Scores(b, 0, 0, 0), Select(b, 0, 0), Attend(b, 0, 0, 0, 0)),
		"no rows need no memory")
	require.NoError(t, b.Upload(Span{table: []int32{0, 1, 2, 3}, position: 12, rows: 4}))
	tests := []struct {
		name     string
		err      error
		argument string
	}{
		{"insert without qkv", Insert(b, 0, 0, full), "qkv"},
		{"insert into a layer that is not there", Insert(b, 2, ok, full), "layer"},
		{"insert into a negative layer", Insert(b, -1, ok, full), "layer"},
		{"insert without q norm", Insert(b, 0, ok, Params{0, 64, 64, 64}), "params.QNorm"},
		{"insert without k norm", Insert(b, 0, ok, Params{64, 0, 64, 64}), "params.KNorm"},
		{"insert without index q norm", Insert(b, 0, ok, Params{64, 64, 0, 64}), "params.IndexQNorm"},
		{"insert without index k norm", Insert(b, 0, ok, Params{64, 64, 64, 0}), "params.IndexKNorm"},
		{"no place for scores", Scores(b, 0, ok, 0), "scores"},
		{"scores of a layer that is not there", Scores(b, 9, ok, 64), "layer"},
		{"no place for the selection", Select(b, 64, 0), "selected"},
		{"attend without a selection", Attend(b, 0, ok, 0, 64), "selected"},
		{"attend without a place", Attend(b, 0, ok, 64, 0), "out"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.ErrorIs(t, test.err, hip.ErrInput)
			var argument *hip.InputError
			require.ErrorAs(t, test.err, &argument)
			require.Equal(t, test.argument, argument.Field)
		})
	}
	require.NoError(t, c.Close())
	require.ErrorIs(t, Insert(b, 0, ok, full), ErrClosed)
	require.NoError(t, b.Close())
}

func TestNaNStaysInItsHead(t *testing.T) {
	nan := float32(math.NaN())
	g := tiny()
	g.TopkBlocks, g.InitBlocks, g.LocalBlocks = 3, 0, 1
	base := scenario{geometry: g, format: CacheF32, learned: randomLearned(&g), spans: []scenarioSpan{{seed: 1, position: 30, rows: 2}, {seed: 2, position: 9, rows: 1}}}
	group, heads := g.Heads/g.KVHeads, g.Heads
	tests := []struct {
		name    string
		column  int
		at      int // position in span 0
		spoiled func(row, head, d int) bool
	}{
		{"q of the second row", 2*g.HeadDim + 3, 31, func(row, head, _ int) bool { return row == 1 && head == 2 }},
		{"k of the second row", (heads+1)*g.HeadDim + 2, 31, func(row, head, _ int) bool { return row == 1 && head/group == 1 }},
		{"v of the second row", (heads+g.KVHeads)*g.HeadDim + 5, 31, func(row, head, d int) bool { return row == 1 && head/group == 0 && d == 5 }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			forEachDevice(t, func(t *testing.T, d hip.Device) {
				for _, format := range []CacheFormat{CacheF32, CacheFP8} {
					s := base
					s.format = format
					clean, err := s.run(d)
					require.NoError(t, err)
					s.edit = func(span, position int, columns []float32) {
						if span == 0 && position == test.at {
							columns[test.column] = nan
						}
					}
					got, err := s.run(d)
					require.NoError(t, err)
					want := clean.out
					for i := range want {
						if test.spoiled(i/(heads*g.HeadDim), i/g.HeadDim%heads, i%g.HeadDim) {
							want[i] = nan
						}
					}
					require.NoError(t, hiptest.Within(got.out, want, 0), format)
					require.Equal(t, clean.selected, got.selected, format)
				}
			})
		})
	}
	t.Run("index q of the second row", func(t *testing.T) {
		forEachDevice(t, func(t *testing.T, d hip.Device) {
			s := base
			clean, err := s.run(d)
			require.NoError(t, err)
			s.edit = func(span, position int, columns []float32) {
				if span == 0 && position == 31 {
					columns[g.indexQColumn()] = nan // index head 0
				}
			}
			got, err := s.run(d)
			require.NoError(t, err)
			copy(clean.selected[2*g.TopkBlocks:], []int32{0, 1, 7}) // the local block, then the lowest
			require.Equal(t, clean.selected, got.selected)
			for i, score := range got.scores {
				spoiled := i/got.blocks == 2
				require.Equal(t, spoiled, score != score, "score %d", i)
			}
			for _, v := range got.out {
				require.False(t, v != v, "attention does not see scores")
			}
		})
	})
}
