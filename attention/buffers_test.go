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
		Heads: 4, KVHeads: 2, HeadDim: 8, IndexDim: 6, BlockSize: 4, TopkBlocks: 2, LocalBlocks: 1,
		Rope: Rope{Positions: 64},
	}
	const pages, layers = 5, 3
	c, err := NewCache(d, g, layers, pages, CacheBF16)
	require.NoError(t, err)
	defer c.Close()
	total := int64(0)
	seen := map[hip.Ptr]bool{}
	for layer := range layers {
		data, pageBytes, err := c.Buffers(layer)
		require.NoError(t, err)
		require.Len(t, data, 3)
		require.Len(t, pageBytes, 3)
		for i, bytes := range []int64{2 * 8 * 4 * 2, 2 * 8 * 4 * 2, 6 * 4 * 2} {
			require.Equal(t, bytes, pageBytes[i])
			require.NoError(t, d.Write(data[i], make([]byte, pages*bytes)), "all pages are there")
			require.False(t, seen[data[i]])
			seen[data[i]], total = true, total+pages*bytes
		}
	}
	require.Equal(t, c.Bytes(), total)
	for _, layer := range []int{-1, layers} {
		_, _, err := c.Buffers(layer)
		require.ErrorIs(t, err, hip.ErrInput)
		require.ErrorContains(t, err, "attention: buffers: layer is ")
	}
	require.NoError(t, c.Close())
	_, _, err = c.Buffers(0)
	require.EqualError(t, err, "attention: buffers: cache is closed")
	require.ErrorIs(t, err, ErrClosed)
}
