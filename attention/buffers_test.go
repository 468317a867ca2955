package attention

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

func TestBuffersAreTheCache(t *testing.T) {
	d := hip.NewHost()
	defer d.Close()
	g := Geometry{
		Heads: 4, KVHeads: 2, HeadDim: 8, IndexHeads: 2, IndexDim: 6, BlockSize: 4, TopkBlocks: 2, LocalBlocks: 1,
		Rope: Rope{MaxPosition: 64},
	}
	const pages, layers = 5, 3
	c, err := NewCache(d, g, layers, pages, CacheBF16)
	require.NoError(t, err)
	defer c.Close()
	total := int64(0)
	seen := map[hip.Ptr]bool{}
	for layer := range layers {
		b, err := c.Buffers(layer)
		require.NoError(t, err)
		require.EqualValues(t, 2*8*4*2, b.PageBytes)
		require.EqualValues(t, 6*4*2, b.IndexPageBytes)
		for p, n := range map[hip.Ptr]int64{b.Keys: b.PageBytes, b.Values: b.PageBytes, b.IndexKeys: b.IndexPageBytes} {
			require.NoError(t, d.Write(p, make([]byte, pages*n)), "all pages are there")
			require.False(t, seen[p])
			seen[p], total = true, total+pages*n
		}
	}
	require.Equal(t, c.Bytes(), total)
	for _, layer := range []int{-1, layers} {
		_, err := c.Buffers(layer)
		var argument *ArgumentError
		require.ErrorAs(t, err, &argument)
	}
}
