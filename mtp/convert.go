package mtp

import (
	"slices"

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

// input is hidden states or embeddings on their way to kernels, which read float32.
type input struct {
	n       int
	states  hip.Ptr // where kernels read them
	narrow  hip.Ptr // bfloat16 that becomes states, if that is still to be done
	inWords bool
	at      int // in the words
}

// inputBuffers is where an input lies that does not come with the words. Each input has
// its own: what makes float32 of one is launched when all are on the device.
type inputBuffers struct {
	narrow, wide buffer // bfloat16 from the host; float32
}

// inputWords is how many values of an input go up with the words at most. More take a
// write of their own, which copies one part while the next is filled.
const inputWords = 1 << 18

// takeInput puts host values among the words, if they are few and the device shares
// memory.
func (w *workspace) takeInput(h *Hidden, n int) (in input) {
	in = input{n: n, inWords: w.sharer != nil && h.Device == 0 && n <= inputWords}
	if !in.inWords {
		return in
	}
	w.words.align()
	in.at = len(w.words.values)
	w.words.add(bitsOf(h.Float32))
	w.words.values = slices.Grow(w.words.values, len(h.BFloat16))
	for _, v := range h.BFloat16 {
		w.words.values = append(w.words.values, int32(uint32(v)<<16))
	}
	return in
}

// loadInput brings what is not among the words to the device, unless it is there in
// place.
func (w *workspace) loadInput(in *input, h *Hidden, to *inputBuffers) error {
	if in.inWords {
		return nil
	}
	if h.Device != 0 && !h.DeviceBFloat16 {
		in.states = h.Device
		return nil
	}
	if err := to.wide.grow(w.device, in.n, 4); err != nil {
		return err
	}
	in.states = to.wide.ptr
	switch {
	case h.Float32 != nil:
		return hip.WriteOf(w.device, to.wide.ptr, h.Float32)
	case h.Device != 0:
		in.narrow = h.Device
		return nil
	}
	if err := to.narrow.grow(w.device, in.n, 2); err != nil {
		return err
	}
	in.narrow = to.narrow.ptr
	return hip.WriteOf(w.device, in.narrow, h.BFloat16)
}

// place tells an input that is among the words where they are, or will be when they
// are fetched.
func (in *input) place(w *words) {
	if in.inWords {
		in.states = w.at(in.at)
	}
}

// launchInput makes float32 of the input on d, if it has to.
func launchInput(d hip.Device, in *input) error {
	if in.narrow == 0 {
		return nil
	}
	grid := hip.Grid{Blocks: (in.n + widenTile - 1) / widenTile, Threads: 256, BlockCost: 6 * widenTile}
	return widen.Launch(d, grid, &widenArgs{X: in.narrow, Y: in.states, N: int64(in.n)})
}
