package moe

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestWorkspaceFreeFailsOnce: whatever buffer the device keeps, the next Free gives it back.
func TestWorkspaceFreeFailsOnce(t *testing.T) {
	kept := errors.New("kept")
	inner := hip.NewReference()
	defer func() { require.NoError(t, inner.Close()) }()
	d := hiptest.NewFaulty(inner, kept)
	c := Config{Hidden: 32, Intermediate: 32, SharedIntermediate: 32, Experts: 4, TopK: 2, Scale: 1, Alpha: 1, Limit: 1, Beta: 1}
	for n := 1; ; n++ {
		var w Workspace
		require.NoError(t, w.Reserve(d, &c, 3, true))
		d.FailAt(n, "free")
		err := w.Free(d)
		d.FailAt(0)
		_, live := hiptest.InUse(inner)
		if err == nil {
			require.Zero(t, live)
			require.Equal(t, 15, n, "each of 14 buffers was kept once")
			return
		}
		require.ErrorIs(t, err, kept)
		require.Equal(t, 1, live)
		require.NoError(t, w.Free(d))
		_, live = hiptest.InUse(inner)
		require.Zero(t, live)
	}
}
