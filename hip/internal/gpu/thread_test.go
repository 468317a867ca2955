package gpu_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

// TestCurrentDeviceStays: an engine that has selected a device on its thread finds it
// selected after every call of another device's.
func TestCurrentDeviceStays(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, e := range platforms {
		e.Devices = 2
		m := emulator.New(t, e)
		m.Select(1)
		stays := func(call string) { require.Equal(t, 1, m.Selected(), "%s: after %s", e.Platform, call) }
		d := must(hip.Open(0, m.Options()))
		stays("open")
		const n = 100
		x := must(hip.Upload(d, values(n)))
		stays("upload")
		z, _, err := d.(sharer).AllocShared(64)
		require.NoError(t, err)
		stays("alloc shared")
		_, err = d.(timer).Time(func() error {
			stays("mark")
			return scaleOn(d, x, n, 2)
		})
		require.NoError(t, err)
		stays("time")
		g := must(capture(d, func(r hip.Device) error {
			stays("begin")
			return scaleOn(r, x, n, 2)
		}))
		stays("capture")
		require.NoError(t, g.Launch())
		stays("launch")
		require.NoError(t, expect(d, x, n, 4))
		stays("read")
		require.NoError(t, g.Close())
		require.NoError(t, d.Free(z))
		stays("free")
		require.ErrorIs(t, d.Free(z), hip.ErrAccess)
		stays("a call that is refused")
		require.NoError(t, d.Close())
		stays("close")
		m.Select(-1)
	}
}
