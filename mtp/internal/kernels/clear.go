package kernels

import "github.com/drafthead/drafthead/hip"

// clearValues sets values to 0, clearBlock a block.
var clearValues = hip.NewKernel("clear_values",
	hip.Define("clearThreads", clearThreads)+hip.Define("clearBlock", clearBlock)+clearHIP, clearTwin).Block(clearThreads)

const clearThreads, clearBlock = 256, 4096

type clearArgs struct {
	Values hip.Ptr // [N] float32
	N      int64
}

// Clear sets n float32 values to 0.
func Clear(d hip.Device, values hip.Ptr, n int) error {
	return clearValues.Launch(d, hip.Grid{Blocks: ceilDiv(n, clearBlock), BlockCost: 4 * clearBlock}, &clearArgs{values, int64(n)})
}

func clearTwin(b *hip.Blocks, a *clearArgs) {
	values := hip.Out[float32](b, a.Values, int(a.N))
	clear(values[b.First*clearBlock : min(b.End*clearBlock, len(values))])
}
