package synthetic

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

func TestMemoryIsTheCheckpoint(t *testing.T) {
	c := plan(t, small(), Options{ShardSize: 60_000})
	var last int64
	m, err := c.InMemory(t.Context(), func(done, total int64) {
		if done <= last || total != c.Size() {
			t.Errorf("progress %d of %d after %d, want more, of %d", done, total, last, c.Size())
		}
		last = done
	})
	require.NoError(t, err)
	require.Equal(t, c.Size(), last)
	require.Equal(t, c.Size(), m.Size())
	require.NoError(t, fstest.TestFS(m, "config.json", indexName))
	for i := range c.Files() {
		f := &c.Files()[i]
		want := make([]byte, f.Size())
		_, err := f.ReadAt(want, 0)
		require.NoError(t, err)
		open, err := m.Open(f.Name)
		require.NoError(t, err)
		require.Equal(t, want, open.(interface{ Bytes() []byte }).Bytes())
		got, err := io.ReadAll(open)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	head, err := mtp.LoadFS(t.Context(), m, mtp.Options{})
	require.NoError(t, err)
	shard, err := m.Open(c.Files()[0].Name)
	require.NoError(t, err)
	first := shard.(interface{ Bytes() []byte }).Bytes()
	at, _ := head.Matrix("model.embed_tokens.weight").Stretch()
	require.True(t, inside(first, uint64(at)), "the head uses the weights where they are")
	require.NoError(t, head.Close())
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
}

func TestCanceledMemory(t *testing.T) {
	c := plan(t, small(), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	m, err := c.InMemory(ctx, func(int64, int64) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, m)
}

func TestEachChunk(t *testing.T) {
	for _, size := range []int64{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, 9*ChunkSize + 5} {
		var sum, calls atomic.Int64
		require.NoError(t, EachChunk(t.Context(), size, func() func(off, n int64) error {
			return func(off, n int64) error {
				sum.Add(n)
				calls.Add(1)
				if off%ChunkSize != 0 || n < 1 || n > ChunkSize || off+n > size {
					t.Errorf("chunk of %d bytes from %d, of %d", n, off, size)
				}
				return nil
			}
		}))
		require.Equal(t, size, sum.Load())
		require.EqualValues(t, (size+ChunkSize-1)/ChunkSize, calls.Load())
	}
	broken := errors.New("broken")
	require.ErrorIs(t, EachChunk(t.Context(), 100*ChunkSize, func() func(off, n int64) error {
		return func(off, n int64) error { return broken }
	}), broken)
}

func TestNormalSequence(t *testing.T) {
	whole, part, other := make([]byte, 1000), make([]byte, 100), make([]byte, 1000)
	NewNormal("a").ReadAt(whole, 0)
	NewNormal("a").ReadAt(part, 333)
	NewNormal("b").ReadAt(other, 0)
	require.Equal(t, whole[333:433], part)
	require.NotEqual(t, whole, other)
	values := make([]float32, 500)
	weights.BF16.Decode(values, whole, nil)
	_, deviation := moments(values)
	require.InDelta(t, 1, deviation, 0.15)
}

// inside reports whether an address lies in data.
func inside(data []byte, at uint64) bool {
	first := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(data))))
	return at >= first && at < first+uint64(len(data))
}
