package hip_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

func TestReplayer(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		const n = 100
		x, y := must(hip.Upload(d, values(n))), must(d.Alloc(4*int64(n)))
		r := hip.NewReplayer(d, 2)
		require.True(t, r.Records())
		calls := 0
		run := func(k float32) func(hip.Device) error {
			return func(d hip.Device) error {
				calls++
				return errors.Join(d.Copy(y, x, 4*n), scaleOn(d, y, n, k), scaleOn(d, y, n, 2))
			}
		}
		for i, c := range []struct {
			k      float32
			calls  int // of the function: listed, and launched or recorded
			graphs int
		}{
			{3, 2, 0}, {3, 2, 1}, {3, 1, 1}, {3, 1, 1},
			{5, 2, 1}, {5, 2, 2}, {3, 1, 2}, {5, 1, 2},
			{7, 2, 1}, // in place of 3, which came before 5
			{5, 1, 1}, {3, 2, 1}, {3, 2, 2},
		} {
			calls = 0
			require.NoError(t, hip.WriteOf(d, x, scaled(n, float32(i))), "what memory holds changes nothing")
			require.NoError(t, r.Run(run(c.k)), i)
			require.NoError(t, expect(d, y, n, 2*c.k*float32(i)), i)
			require.Equal(t, []int{c.calls, c.graphs}, []int{calls, r.Graphs()}, i)
		}

		require.ErrorIs(t, r.Run(func(d hip.Device) error { return d.Sync() }), fail.Recording)
		failing := errors.New("failing")
		refuse := func(d hip.Device) error { return errors.Join(d.Copy(y, x, 8), failing) }
		for range 3 {
			require.ErrorIs(t, r.Run(refuse), failing)
		}
		require.Equal(t, 2, r.Graphs())
		require.NoError(t, r.Close())
		require.Zero(t, r.Graphs())
		require.NoError(t, r.Run(run(1)), "it can be used on")
	})
}

// TestReplayerTells two sequences apart, whatever differs between them.
func TestReplayerTells(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		x, y := must(d.Alloc(1024)), must(d.Alloc(1024))
		launch := func(blocks, threads int, p hip.Ptr, n int32, k float32) func(hip.Device) error {
			return func(d hip.Device) error {
				return scale.Launch(d, hip.Grid{Blocks: blocks, Threads: threads}, &scaleArgs{Y: p, N: n, K: k})
			}
		}
		move := func(dst, src hip.Ptr, n int64) func(hip.Device) error {
			return func(d hip.Device) error { return d.Copy(dst, src, n) }
		}
		twice := func(f func(hip.Device) error) func(hip.Device) error {
			return func(d hip.Device) error { return errors.Join(f(d), f(d)) }
		}
		all := []func(hip.Device) error{
			launch(1, 64, x, 8, 2), launch(2, 64, x, 8, 2), launch(1, 32, x, 8, 2), launch(1, 64, y, 8, 2), launch(1, 64, x, 9, 2), launch(1, 64, x, 8, 3),
			move(x, y, 64), move(y, x, 64), move(x, y.Add(64), 64), move(x, y, 128), twice(move(x, y, 64)), twice(launch(1, 64, x, 8, 2)),
			func(hip.Device) error { return nil },
		}
		r := hip.NewReplayer(d, len(all))
		for range 3 {
			for _, f := range all {
				require.NoError(t, r.Run(f))
			}
		}
		require.Equal(t, len(all), r.Graphs())
		require.NoError(t, r.Close())
		require.NoError(t, d.Sync())
	})
}

// TestReplayerChecksAddresses: what a graph was recorded with may have been freed since.
func TestReplayerChecksAddresses(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		const n = 100
		x, y, z := must(hip.Upload(d, values(n))), must(d.Alloc(4*int64(n))), must(d.Alloc(8))
		r := hip.NewReplayer(d, 4)
		calls := 0
		copies := func(d hip.Device) error { calls++; return d.Copy(y, x, 4*n) }
		launches := func(d hip.Device) error { calls++; return scaleOn(d, x, n, 1) }
		for range 3 {
			require.NoError(t, errors.Join(r.Run(copies), r.Run(launches)))
		}
		require.NoError(t, d.Free(z))
		for _, want := range []int{4, 2, 2} { // checked once
			calls = 0
			require.NoError(t, errors.Join(r.Run(copies), r.Run(launches)))
			require.Equal(t, want, calls)
		}
		require.NoError(t, d.Free(x))
		for range 2 {
			require.ErrorIs(t, r.Run(copies), hip.ErrAccess)
			err := r.Run(launches)
			require.ErrorIs(t, err, hip.ErrAccess)
			require.ErrorContains(t, err, "kernel "+scale.Name+": ")
		}
		require.NoError(t, d.Sync(), "the device goes on")
		require.NoError(t, r.Close())
	})
}

func TestReplayerWithoutGraphs(t *testing.T) {
	d := hip.NewReference()
	defer func() { require.NoError(t, d.Close()) }()
	x := must(hip.Upload(d, values(64)))
	r := hip.NewReplayer(d, 4)
	for range 3 {
		require.NoError(t, r.Run(func(on hip.Device) error {
			require.Same(t, d, on)
			return scaleOn(on, x, 64, 2)
		}))
	}
	require.NoError(t, expect(d, x, 64, 8))
	require.Zero(t, r.Graphs())
	require.NoError(t, r.Close())
}
