package hip_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

type shareArgs struct {
	Y      hip.Ptr // [Blocks] int32
	Blocks int32
	Scale  int32
	Fails  int64 // the part that does, or −1: begin
}

const shareTile = 64 // of a table, a part

// shareScaled multiplies by a table that all workers make together.
var shareScaled = hip.NewKernel("test_share", "", func(b *hip.Blocks, a *shareArgs) {
	n := int(a.Blocks)
	scratch := hip.Scratch[int32](b, n) // must not be the table's memory
	table := hip.Share(b, func(b *hip.Blocks) ([]int32, int) {
		if a.Fails < 0 {
			hip.In[int32](b, 8, n)
		}
		return hip.Scratch[int32](b, n), (n + shareTile - 1) / shareTile
	}, func(table []int32, part int) {
		if part == int(a.Fails) {
			hip.In[int32](b, 8, n)
		}
		for i := part * shareTile; i < min(part*shareTile+shareTile, n); i++ {
			scratch[i] = -1
			table[i] = int32(i) * a.Scale
		}
	})
	other := hip.Scratch[int32](b, n) // likewise
	y := hip.Out[int32](b, a.Y, n)
	for i := b.First; i < b.End; i++ {
		other[i] = -1
		y[i] = table[i]
	}
})

func TestShare(t *testing.T) {
	const n = 5000
	for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(1), hip.NewHost(3)} {
		y, err := d.Alloc(4 * int64(n))
		require.NoError(t, err)
		got := make([]int32, n)
		launch := func(scale, fails int32) error {
			return shareScaled.Launch(d, hip.Grid{Blocks: n, BlockCost: 1 << 10}, &shareArgs{Y: y, Blocks: n, Scale: scale, Fails: int64(fails)})
		}
		for scale := range int32(4) { // a launch never sees what another one shared
			require.NoError(t, launch(scale, n))
			require.NoError(t, hip.ReadOf(d, got, y))
			for i, v := range got {
				require.Equal(t, int32(i)*scale, v)
			}
		}
		for _, part := range []int32{-1, 0, 3, n / shareTile} { // nobody waits for what is never made
			require.ErrorIs(t, launch(1, part), hip.ErrAccess, "part %d", part)
		}
		require.NoError(t, launch(1, n))
		require.NoError(t, d.Free(y))
		require.NoError(t, d.Close())
	}
}
