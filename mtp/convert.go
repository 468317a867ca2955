package mtp

import (
	"github.com/drafthead/drafthead/hip"
)

// widen makes float32 of bfloat16, exactly, 1024 values a block.
var widen = hip.NewKernel("widen_bf16", widenHIP, widenTwin)

type widenArgs struct {
	X hip.Ptr // [N] bfloat16
	Y hip.Ptr // [N] float32
	N int64
}

const widenTile = 1024

func widenTwin(b *hip.Blocks, a *widenArgs) {
	first := b.First * widenTile
	n := min(b.End*widenTile, int(a.N)) - first
	x := hip.In[hip.BF16](b, a.X.Add(2*int64(first)), n)
	y := hip.Out[float32](b, a.Y.Add(4*int64(first)), n)
	for i, v := range x {
		y[i] = v.Float32()
	}
}

// stage brings hidden states to the device as float32: in place if they are
// there already, else in to.
func (w *workspace) stage(h *Hidden, to *buffer, n int) (hip.Ptr, error) {
	if h.Device != 0 && !h.DeviceBFloat16 {
		return h.Device, nil
	}
	if err := to.grow(w.device, n, 4); err != nil {
		return 0, err
	}
	if h.Float32 != nil {
		return to.ptr, hip.WriteOf(w.device, to.ptr, h.Float32)
	}
	from := h.Device
	if h.BFloat16 != nil {
		if err := w.narrow.grow(w.device, n, 2); err != nil {
			return 0, err
		}
		if err := hip.WriteOf(w.device, w.narrow.ptr, h.BFloat16); err != nil {
			return 0, err
		}
		from = w.narrow.ptr
	}
	grid := hip.Grid{Blocks: (n + widenTile - 1) / widenTile, Threads: 256, BlockCost: 6 * widenTile}
	return to.ptr, widen.Launch(w.device, grid, &widenArgs{X: from, Y: to.ptr, N: int64(n)})
}
