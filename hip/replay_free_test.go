package hip_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// stubborn is a device whose graphs cannot be freed at the first try.
type stubborn struct {
	hip.Device
	graphs int // that are there
	fails  bool
}

var errStubborn = errors.New("graph is kept")

func (d *stubborn) Capture(func(hip.Device) error) (launch, release func() error, err error) {
	d.graphs++
	return func() error { return nil }, func() error {
		if d.fails {
			return errStubborn
		}
		d.graphs--
		return nil
	}, nil
}

// TestReplayerKeepsWhatIsNotFreed: a graph that the device could not free is freed by the
// next Close, and none is dropped to make room.
func TestReplayerKeepsWhatIsNotFreed(t *testing.T) {
	d := &stubborn{Device: hip.NewReference()}
	defer d.Close()
	x, err := d.Alloc(64)
	require.NoError(t, err)
	r := hip.NewReplayer(d, 2)
	run := func(n int64) error {
		return r.Run(func(d hip.Device) error { return d.Copy(x, x.Add(32), n) })
	}
	for range 2 {
		require.NoError(t, run(8))
		require.NoError(t, run(16))
	}
	require.Equal(t, 2, d.graphs)
	d.fails = true
	require.ErrorIs(t, run(24), errStubborn, "there is no room")
	require.ErrorIs(t, r.Close(), errStubborn)
	require.Equal(t, 2, r.Graphs())
	d.fails = false
	require.NoError(t, run(24))
	require.Equal(t, 1, d.graphs)
	require.NoError(t, r.Close())
	require.Zero(t, d.graphs)
	require.Zero(t, r.Graphs())
}
