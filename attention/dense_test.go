package attention

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// Dense attention is that over all blocks, to the bit.
func TestDenseEqualsEveryBlock(t *testing.T) {
	forEachDevice(t, testDenseEqualsEveryBlock)
}

func TestDenseEqualsEveryBlockOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, testDenseEqualsEveryBlock)
}

func testDenseEqualsEveryBlock(t *testing.T, d hip.Device) {
	for _, format := range []CacheFormat{CacheBF16, CacheF32, CacheFP8} {
		for _, rows := range []int{1, 3, 40} {
			sparse := scenario{geometry: tiny(), format: format, spans: []scenarioSpan{
				{seed: 1, position: 33, rows: rows},
				{seed: 2, position: 5, rows: 1},
				{seed: 3, position: 30, rows: 2, hole: func(p int) bool { return p%5 == 2 || p < 8 }},
			}}
			sparse.geometry.TopkBlocks = (33 + rows + 3) / 4
			sparse.learned = randomLearned(&sparse.geometry)
			all := sparse
			all.geometry = dense(sparse.geometry)
			want, err := sparse.run(d)
			require.NoError(t, err)
			got, err := all.run(d)
			require.NoError(t, err)
			require.Equal(t, want.out, got.out, "%v, %d rows", format, rows)
			wide, narrow := sparse.geometry.Columns(), all.geometry.Columns()
			for row := range rows + 3 {
				require.Equal(t, want.qkv[row*wide:][:narrow], got.qkv[row*narrow:][:narrow], "queries, keys and values of row %d", row)
			}
		}
	}
}

// A dense cache holds keys and values alone, and its pages are copied when a fork is
// written.
func TestDenseCache(t *testing.T) {
	d := hip.NewHost()
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	g := dense(tiny())
	c := newCache(t, d, g, 2, 4, CacheF32)
	data, pageBytes, err := c.Buffers(1)
	require.NoError(t, err)
	require.Zero(t, data[2])
	require.Equal(t, []int64{4 * 2 * 16 * 4, 4 * 2 * 16 * 4, 0}, pageBytes)
	require.Equal(t, int64(2*2*4*pageBytes[0]+8*4), c.Bytes())

	seq := c.NewSequence()
	tx, err := c.Begin(Claim{Sequence: seq, To: 3})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	want := randomValues(1, 1, int(pageBytes[0])/4)
	require.NoError(t, hip.WriteOf(d, data[1].Add(int64(seq.BlockTable()[0])*pageBytes[1]), want))
	fork, err := seq.Fork()
	require.NoError(t, err)
	tx, err = c.Begin(Claim{Sequence: fork, From: 3, To: 4})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.NotEqual(t, seq.BlockTable(), fork.BlockTable())
	require.Equal(t, want, get[float32](t, d, data[1].Add(int64(fork.BlockTable()[0])*pageBytes[1]), len(want)))
}

// What dense attention does not have is refused.
func TestDenseRefusals(t *testing.T) {
	d := hip.NewHost()
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	g := dense(tiny())
	c := newCache(t, d, g, 1, 1, CacheF32)
	a, b := &arena{d: d}, NewBatch(c)
	require.NoError(t, b.Upload(Span{table: []int32{0}, rows: 1}))
	qkv := mustPut(t, a, make([]float32, g.Columns()))
	p := mustPut(t, a, make([]float32, 256))
	for call, err := range map[string]error{
		"attention: scores: Geometry.IndexDim is 0, want at least 1: dense attention selects no blocks":                            Scores(b, 0, qkv, p),
		"attention: select: Geometry.IndexDim is 0, want at least 1: dense attention selects no blocks":                            Select(b, p, p),
		"attention: attend: selected is an address, want none, since Geometry.IndexDim is 0":                                       Attend(b, 0, qkv, p, p),
		"attention: insert: params.IndexKNorm is an address, want none, since Geometry.IndexDim is 0":                              Insert(b, 0, qkv, Params{QNorm: p, KNorm: p, IndexKNorm: p}),
		"attention: insert: params.QNorm is missing, want an address\nattention: insert: params.KNorm is missing, want an address": Insert(b, 0, qkv, Params{}),
	} {
		require.EqualError(t, err, call)
		require.ErrorIs(t, err, hip.ErrInput)
	}
	require.NoError(t, b.Close())
	require.NoError(t, a.close())
}
