package kernels

import "github.com/drafthead/drafthead/hip"

// widenBF16 makes float32 of bfloat16, exactly, a tile of values a block.
var widenBF16 = hip.NewKernel("widen_bf16",
	hip.Define("widenThreads", widenThreads)+hip.Define("widenTile", widenTile)+widenBF16HIP, widenBF16Twin).Block(widenThreads)

type widenArgs struct {
	X hip.Ptr // [N] bfloat16
	Y hip.Ptr // [N] float32
	N int64
}

const (
	widenThreads = 256
	widenTile    = 1024 // values of a block
)

// WidenBF16 sets the n float32 at y to the bfloat16 at x.
func WidenBF16(d hip.Device, y, x hip.Ptr, n int) error {
	grid := hip.Grid{Blocks: ceilDiv(n, widenTile), BlockCost: 6 * widenTile}
	return widenBF16.Launch(d, grid, &widenArgs{X: x, Y: y, N: int64(n)})
}

func widenBF16Twin(b *hip.Blocks, a *widenArgs) {
	first := b.First * widenTile
	n := min(b.End*widenTile, int(a.N)) - first
	x := hip.In[hip.BF16](b, a.X.Add(2*int64(first)), n)
	y := hip.Out[float32](b, a.Y.Add(4*int64(first)), n)
	for i, v := range x {
		y[i] = v.Float32()
	}
}
