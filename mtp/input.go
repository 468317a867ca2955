package mtp

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
)

// input is hidden states or embeddings on their way to kernels, which read float32.
type input struct {
	n      int     // values
	states hip.Ptr // where kernels read them
	narrow hip.Ptr // bfloat16 that is still to become states; 0: none
	staged bool    // among the words, from word at on
	at     int
}

// inputBuffers hold an input that does not travel with the words. Each input has its own,
// since all are on the device before the first is made float32.
type inputBuffers struct {
	narrow, wide hip.Buffer // bfloat16 from the host; float32
}

// stagedInput is the largest number of values of an input that travels with the words. A
// larger one takes a write of its own, which copies one part while the next is filled.
const stagedInput = 1 << 18

// stageInput puts a small host input among the words, so that its address, and with it
// the recorded graph, stays the same from call to call.
func (w *workspace) stageInput(h *Hidden, n int) input {
	in := input{n: n, staged: w.up.Shared() && h.Device == 0 && n <= stagedInput}
	if !in.staged {
		return in
	}
	w.up.Align()
	if h.Float32 != nil {
		in.at = w.up.AddFloats(h.Float32)
	} else {
		in.at = w.up.AddBFloat16(h.BFloat16)
	}
	return in
}

// loadInput brings an input that is not staged to the device, unless it is there already.
func (w *workspace) loadInput(in *input, h *Hidden, to *inputBuffers) error {
	if in.staged || in.n == 0 {
		return nil
	}
	if h.Device != 0 && !h.DeviceBFloat16 {
		in.states = h.Device
		return nil
	}
	if err := to.wide.Grow(w.device, in.n, 4); err != nil {
		return err
	}
	in.states = to.wide.Ptr()
	switch {
	case h.Float32 != nil:
		return hip.WriteOf(w.device, in.states, h.Float32)
	case h.Device != 0:
		in.narrow = h.Device
		return nil
	}
	if err := to.narrow.Grow(w.device, in.n, 2); err != nil {
		return err
	}
	in.narrow = to.narrow.Ptr()
	return hip.WriteOf(w.device, in.narrow, h.BFloat16)
}

// place gives a staged input its address, which is known once the words were uploaded.
func (in *input) place(w *workspace) {
	if in.staged {
		in.states = w.up.At(in.at)
	}
}

// widen makes float32 of an input on d, if it is bfloat16.
func (in *input) widen(d hip.Device) error {
	if in.narrow == 0 {
		return nil
	}
	return kernels.WidenBF16(d, in.states, in.narrow, in.n)
}
