package hip_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

type levelArgs struct {
	Y hip.Ptr // [blocks] int32
}

var level = hip.NewKernel("test_level", "", storeLevel).Fast(0, storeLevel)

func storeLevel(b *hip.Blocks, a *levelArgs) {
	y := hip.Out[int32](b, a.Y, 1)
	y[0] = int32(b.SIMD())
}

func TestSIMD(t *testing.T) {
	levels := hip.SIMDLevels()
	require.Equal(t, hip.SIMDNone, levels[0])
	require.IsIncreasing(t, levels)
	for _, want := range levels {
		d := hip.NewHostAt(1, want)
		require.Contains(t, d.Info().Name, want.String())
		requireLevel(t, d, want)
	}
	best := levels[len(levels)-1]
	requireLevel(t, hip.NewHost(), best)
	requireLevel(t, hip.NewReference(), hip.SIMDNone)
	// A bound above the machine's is the machine's.
	for _, bound := range []hip.SIMD{hip.SIMDNEONBF16, hip.SIMDNEONBF16 + 1} {
		requireLevel(t, hip.NewHostAt(0, bound), best)
	}
}

func requireLevel(t *testing.T, d hip.Device, want hip.SIMD) {
	t.Helper()
	y, err := d.Alloc(4)
	require.NoError(t, err)
	require.NoError(t, level.Launch(d, hip.Grid{Blocks: 1}, &levelArgs{Y: y}))
	got := make([]int32, 1)
	require.NoError(t, hip.ReadOf(d, got, y))
	require.EqualValues(t, want, got[0])
	require.NoError(t, d.Free(y))
	require.NoError(t, d.Close())
}

type keepArgs struct {
	Y      hip.Ptr // [Blocks] int32
	Blocks int32
	Scale  int32
}

// keepScaled multiplies by a table that each worker makes once a launch.
var keepScaled = hip.NewKernel("test_keep", "", func(b *hip.Blocks, a *keepArgs) {
	n := int(a.Blocks)
	table := hip.Keep(b, func() []int32 {
		table := hip.Scratch[int32](b, n)
		for i := range table {
			table[i] = int32(i) * a.Scale
		}
		return table
	})
	other := hip.Scratch[int32](b, n) // must not be the table's memory
	y := hip.Out[int32](b, a.Y, n)
	for i := b.First; i < b.End; i++ {
		other[i] = -1
		y[i] = table[i]
	}
})

func TestKeep(t *testing.T) {
	const n = 5000
	for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(1), hip.NewHost(3)} {
		y, err := d.Alloc(4 * int64(n))
		require.NoError(t, err)
		got := make([]int32, n)
		for scale := range int32(4) { // a launch never sees what another one kept
			require.NoError(t, keepScaled.Launch(d, hip.Grid{Blocks: n, BlockCost: 1 << 10}, &keepArgs{Y: y, Blocks: n, Scale: scale}))
			require.NoError(t, hip.ReadOf(d, got, y))
			for i, v := range got {
				require.Equal(t, int32(i)*scale, v)
			}
		}
		require.NoError(t, d.Free(y))
		require.NoError(t, d.Close())
	}
}
