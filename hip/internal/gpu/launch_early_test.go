package gpu

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// TestCanStartEarly: the driver must have the call and record it, and code must be able to
// wait.
func TestCanStartEarly(t *testing.T) {
	with := func(function uintptr, version int, target string) bool {
		d := &driver{version: version}
		d.function[callLaunchEarly] = function
		return d.canStartEarly(&compiler{target: target})
	}
	for _, target := range []string{"sm_90", "sm_90a", "sm_100", "compute_90"} {
		require.True(t, with(1, 12_030, target), target)
	}
	require.False(t, with(0, 12_080, "sm_90"), "no such call")
	require.False(t, with(1, 12_020, "sm_90"), "not recorded in graphs")
	for _, target := range []string{"sm_89", "compute_80", "gfx942:sramecc+:xnack-", "gfx90a", ""} {
		require.False(t, with(1, 12_080, target), target)
	}
}

// TestEarlyLaunchLayout: CUlaunchConfig and CUlaunchAttribute as the driver reads them.
func TestEarlyLaunchLayout(t *testing.T) {
	var e earlyLaunch
	require.EqualValues(t, 56, unsafe.Sizeof(e.config))
	require.EqualValues(t, 12, unsafe.Offsetof(e.config.block))
	require.EqualValues(t, 24, unsafe.Offsetof(e.config.shared))
	require.EqualValues(t, 32, unsafe.Offsetof(e.config.stream))
	require.EqualValues(t, 40, unsafe.Offsetof(e.config.attributes))
	require.EqualValues(t, 48, unsafe.Offsetof(e.config.count))
	require.EqualValues(t, 72, unsafe.Sizeof(e.attribute))
	require.EqualValues(t, 8, unsafe.Offsetof(e.attribute.value))
}
