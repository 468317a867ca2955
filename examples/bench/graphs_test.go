package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestGraphsAreTimed: on a device that records graphs every call of a head becomes
// one, whose time is told apart from the host's.
func TestGraphsAreTimed(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	s, err := parse([]string{"-shape", "nano", "-time", "1ms", "-batch", "2", "-commit", "5", "-prefill", "3", "-context", "20", "-k", "2", "-cheap=false", "-kernels"}, io.Discard)
	require.NoError(t, err)
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		out, err := s.benchOn(t.Context(), []hip.Device{d}, io.Discard)
		require.NoError(t, err)
		require.Len(t, out.Rows, 5)
		for _, r := range out.Rows {
			require.Positive(t, r.GraphSeconds, r.Work)
			require.Positive(t, r.HostSeconds, r.Work)
		}
		require.NotEmpty(t, out.Kernels)
		var text bytes.Buffer
		require.NoError(t, out.print(&text, false))
		require.Regexp(t, `host +before and after the graphs of a call:\s+step \d+ µs,\s+chain of 2 \d+ µs,\s+batch`, text.String())
	})
}

func TestGraphTimerCountsGraphsAlone(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		timer := &graphTimer{graphDevice: d.(graphDevice)}
		p, err := timer.Alloc(64)
		require.NoError(t, err)
		launch, release, err := timer.Capture(func(r hip.Device) error { return r.Copy(p, p.Add(32), 32) })
		require.NoError(t, err)
		require.NoError(t, timer.Sync())
		require.Zero(t, timer.take())
		require.NoError(t, launch())
		require.Zero(t, timer.take(), "not waited for")
		require.NoError(t, timer.Sync())
		require.Positive(t, timer.take())
		require.NoError(t, timer.Sync())
		require.Zero(t, timer.take())
		require.NoError(t, release())
		require.NoError(t, timer.Free(p))
	})
}
