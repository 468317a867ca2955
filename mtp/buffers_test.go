package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// TestCacheMovesBetweenCaches copies what one cache holds to another by their
// buffers: rows after it see the same.
func TestCacheMovesBetweenCaches(t *testing.T) {
	const n, pages = 11, 8
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x := randomPassage(8, n+1)
	var caches []*mtp.Cache
	batch := func(c *mtp.Cache, from, to int) *mtp.Batch {
		b := x.batch(nil, from, to)
		b.Sequences[0].BlockTable, b.Cache = []int32{7, 1, 3, 2, 4, 6, 5, 0}, c
		return b
	}
	for range 2 {
		caches = append(caches, newCache(t, head, pages))
	}
	forward(t, head, batch(caches[0], 0, n), 0)
	from, pageBytes, err := caches[0].Buffers(0)
	require.NoError(t, err)
	to, _, err := caches[1].Buffers(0)
	require.NoError(t, err)
	d := head.Device()
	for i := range from {
		require.NoError(t, d.Copy(to[i], from[i], pages*pageBytes[i]))
	}
	require.NoError(t, d.Sync())
	require.Equal(t, forward(t, head, batch(caches[0], n, n+1), 0), forward(t, head, batch(caches[1], n, n+1), 0))

	_, _, err = caches[0].Buffers(99)
	require.Error(t, err)
	closed, err := head.NewCache(1)
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, _, err = closed.Buffers(0)
	require.ErrorIs(t, err, mtp.ErrClosed)
}
