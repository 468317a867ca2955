package hip

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestZeroedAsks: the system is asked before memory is made, and a refusal makes none.
// Small sizes are not asked for.
func TestZeroedAsks(t *testing.T) {
	var asked []int64
	refuses := func(n int64) bool { asked = append(asked, n); return false }
	mem, err := zeroedOf(64<<20, refuses)
	require.NoError(t, err)
	require.Len(t, mem, 64<<20)
	require.Empty(t, asked)
	for _, n := range []int64{64<<20 + 1, 1 << 39, math.MaxInt64 - 64<<20} {
		_, err := zeroedOf(n, refuses)
		require.ErrorIs(t, err, ErrOutOfMemory)
		require.Equal(t, n+64<<20, asked[len(asked)-1], "with what Go takes beside it")
	}
	_, err = zeroedOf(65<<20, func(int64) bool { return true })
	require.NoError(t, err)
}

// TestSystemHas: a process does not get more than it could address, and asking takes
// nothing.
func TestSystemHas(t *testing.T) {
	if runtime.GOOS == "plan9" || runtime.GOARCH == "wasm" {
		t.Skip("the system is not asked")
	}
	require.True(t, systemHas(1<<20))
	require.False(t, systemHas(math.MaxInt&^(1<<20-1)))
}
