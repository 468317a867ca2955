package attention

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestScoresOnGPUs: index heads and columns that are more or less than what is done at
// once, keys of any alignment, blocks longer than a turn of the threads, holes, and values
// that are NaN or infinite, in keys that count and in some that do not.
func TestScoresOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		for _, shape := range []struct{ heads, dim, blockSize int }{
			{4, 128, 128}, {1, 8, 130}, {5, 16, 4}, {3, 17, 5}, {2, 20, 3}, {4, 12, 64}, {6, 264, 3}, {2, 259, 4}, {1, 516, 5}, {9, 1, 260},
		} {
			for _, format := range []CacheFormat{CacheBF16, CacheF32} {
				g := tiny()
				g.Heads, g.KVHeads, g.HeadDim, g.IndexDim, g.BlockSize, g.Rope.Frequencies = shape.heads, shape.heads, 1, shape.dim, shape.blockSize, nil
				for _, bad := range []float64{0, math.NaN(), math.Inf(1), math.Inf(-1)} {
					scoreOnGPU(t, checked, g, format, float32(bad))
				}
			}
		}
	})
}

// scoreOnGPU checks the scores of two rows over three blocks, of which the last begins.
// Some keys of each have the bad value, unless that is zero.
func scoreOnGPU(t *testing.T, d hip.Device, g Geometry, format CacheFormat, bad float32) {
	t.Helper()
	c, err := NewCache(d, g, 1, 3, format)
	require.NoError(t, err)
	keys := randomValues(1, 1, 3*g.BlockSize*g.IndexDim)
	presence := make([]uint32, wordsFor(2*g.BlockSize+2))
	for p := range 2*g.BlockSize + 2 {
		if p%4 != 1 || p >= 2*g.BlockSize {
			presence[p/32] |= 1 << (p % 32)
		}
	}
	// The block table is 2, 0, 1: rows see all but the last slots of page 1.
	slot := func(position int) int { return (position/g.BlockSize+2)%3*g.BlockSize + position%g.BlockSize }
	for position := range 3 * g.BlockSize {
		x := keys[slot(position)*g.IndexDim:][:g.IndexDim]
		switch hidden := position >= 2*g.BlockSize+2 || presence[position/32]>>(position%32)&1 == 0; {
		case hidden:
			x[len(x)/2] = float32(math.NaN())
		case bad != 0 && position%g.BlockSize == g.BlockSize-1:
			x[len(x)-1] = bad
		}
	}
	l := &c.layers[0]
	if format == CacheF32 {
		require.NoError(t, hip.WriteOf(d, l.indexKeys, keys))
	} else {
		halves := make([]hip.BF16, len(keys))
		for i, v := range keys {
			halves[i] = hip.ToBF16(v)
		}
		require.NoError(t, hip.WriteOf(d, l.indexKeys, halves))
	}
	a, b := &arena{d: d}, NewBatch(c)
	require.NoError(t, b.Upload(Span{table: []int32{2, 0, 1}, presence: presence, position: 2 * g.BlockSize, rows: 2}))
	q := randomValues(1, 2, 2*g.Columns())
	if bad != 0 {
		q[g.Columns()+g.indexQColumn()+g.IndexDim-1] = bad // of row 1's first head
	}
	scores := mustPut(t, a, make([]float32, 2*g.KVHeads*3))
	require.NoError(t, Scores(b, 0, mustPut(t, a, q), scores), "%v, %v, %+v", format, bad, g)
	if bad == 0 {
		for i, score := range get[float32](t, d, scores, 2*g.KVHeads*3) {
			require.False(t, math.IsNaN(float64(score)) || math.IsInf(float64(score), 0), "score %d is %v: %v, %+v", i, score, format, g)
		}
	}
	require.NoError(t, b.Close())
	require.NoError(t, a.close())
	require.NoError(t, c.Close())
}
