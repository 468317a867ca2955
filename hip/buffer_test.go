package hip_test

import (
	"errors"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestBufferGrows(t *testing.T) {
	d := hip.NewReference()
	defer func() { require.NoError(t, d.Close()) }()
	inUse := func() [2]int64 {
		bytes, live := hiptest.InUse(d)
		return [2]int64{bytes, int64(live)}
	}
	var b hip.Buffer
	require.NoError(t, b.Free(d), "an empty one")
	require.NoError(t, b.Grow(d, 0, 4))
	require.Zero(t, b.Ptr())
	require.NoError(t, b.Grow(d, 10, 4))
	p := b.Ptr()
	require.NoError(t, d.Write(p, []byte{1}))
	for _, n := range []int{10, 9, 0} {
		require.NoError(t, b.Grow(d, n, 4))
		require.Equal(t, p, b.Ptr(), "there is room")
	}
	require.Equal(t, [2]int64{40, 1}, inUse())
	require.NoError(t, b.Grow(d, 11, 4))
	require.EqualValues(t, 44, b.Bytes())
	require.Equal(t, [2]int64{44, 1}, inUse(), "the old memory is freed")
	got := []byte{7}
	require.NoError(t, d.Read(got, b.Ptr()))
	require.Zero(t, got[0])
	require.NoError(t, b.Free(d))
	require.NoError(t, b.Free(d), "twice")
	require.Equal(t, hip.Buffer{}, b)
	require.Equal(t, [2]int64{}, inUse())
}

// TestBufferAfterAnError: after any failure the buffer says what it holds and can still be
// used.
func TestBufferAfterAnError(t *testing.T) {
	d := hip.NewReference()
	var b hip.Buffer
	for _, n := range [][2]int{{math.MaxInt, 4}, {math.MaxInt, math.MaxInt}, {-1, 4}, {1, -4}} {
		require.ErrorIs(t, b.Grow(d, n[0], n[1]), hip.ErrOutOfMemory, n)
	}
	require.NoError(t, b.Grow(d, 10, 4))
	p := b.Ptr()
	require.ErrorIs(t, b.Grow(d, math.MaxInt, 4), hip.ErrOutOfMemory)
	require.Equal(t, p, b.Ptr(), "a size that no device has changes nothing")
	require.ErrorIs(t, b.Grow(d, math.MaxInt, 1), hip.ErrOutOfMemory)
	require.Equal(t, hip.Buffer{}, b, "the old memory went first")
	require.NoError(t, b.Grow(d, 10, 4))
	require.NoError(t, d.Close())
	require.ErrorIs(t, b.Grow(d, 11, 4), hip.ErrClosed)
}

// TestBufferGrowsBesideQueuedWork: a buffer grows while kernels that use what it held are
// still queued, and what they compute is right.
func TestBufferGrowsBesideQueuedWork(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		const n = 1000
		x, out := must(hip.Upload(d, values(n))), must(d.Alloc(4*int64(n)))
		var b hip.Buffer
		for round := range 4 {
			require.NoError(t, b.Grow(d, n+round, 4))
			require.NoError(t, errors.Join(d.Copy(b.Ptr(), x, 4*n), scaleOn(d, b.Ptr(), n, 2), d.Copy(out, b.Ptr(), 4*n)))
		}
		require.NoError(t, b.Free(d))
		require.NoError(t, expect(d, out, n, 2))
		require.NoError(t, errors.Join(d.Free(x), d.Free(out)))
	})
}

// TestBufferFreeFailsOnce: a buffer whose memory the device kept still has it, and the next
// Free or Grow gives it back.
func TestBufferFreeFailsOnce(t *testing.T) {
	kept := errors.New("kept")
	inner := hip.NewReference()
	defer func() { require.NoError(t, inner.Close()) }()
	d := hiptest.NewFaulty(inner, kept)
	var b hip.Buffer
	for _, again := range []func() error{func() error { return b.Free(d) }, func() error { return b.Grow(d, 200, 4) }} {
		require.NoError(t, b.Grow(d, 100, 4))
		p := b.Ptr()
		d.FailAt(1, "free")
		require.ErrorIs(t, again(), kept)
		require.Equal(t, p, b.Ptr())
		require.EqualValues(t, 400, b.Bytes())
		d.FailAt(0)
		require.NoError(t, again())
		require.NotEqual(t, p, b.Ptr())
		require.NoError(t, b.Free(d))
		bytes, live := hiptest.InUse(inner)
		require.Zero(t, bytes)
		require.Zero(t, live)
	}
}
