package mtp

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
	"github.com/drafthead/drafthead/norm"
	"github.com/drafthead/drafthead/weights"
)

// Logits returns lm_head · rms(hidden; final_layernorm) of module step mod num_mtp_modules
// for the given rows of hidden, len(rows) × vocab_size float32, which the caller owns. Rows
// may repeat and come in any order; nil stands for all rows of hidden states on the host.
//
// Hidden states in no form or in several, a row that they do not have, or a negative step
// is an [InputError]; nothing has run then. A closed head is [ErrClosed]. Other errors are
// those of ctx and of the device.
func (h *Head) Logits(ctx context.Context, hidden Hidden, rows []int, step int) ([]float32, error) {
	var logits []float32
	err := h.onRows(ctx, hidden, rows, step, nil, func(w *workspace, in *input, n, module int) error {
		own := 0
		if h.lmHead != nil {
			own = h.lmHead.Rows
		}
		err := w.growLogits(h.config.HiddenSize, n, own)
		if h.ranks != nil && err == nil {
			err = w.reserveRanks(h, n, 1, &h.ranks.lmHead)
		}
		if err != nil {
			return err
		}
		from := &w.logits
		err = w.run(false, func(d hip.Device) error {
			if err := h.logitsOf(d, w, h.lmHead, in, n, module); err != nil || h.ranks == nil {
				return err
			}
			from = &w.joined
			return h.join(d, w, n, &h.ranks.lmHead)
		})
		if err != nil {
			return err
		}
		logits = make([]float32, n*h.config.VocabSize)
		return w.read(logits, from.Ptr())
	})
	return logits, err
}

// FinalNorm returns rms(hidden; final_layernorm) of module step mod num_mtp_modules for the
// given rows, len(rows) × hidden_size float32: the input of lm_head. Arguments and errors
// are those of Logits.
func (h *Head) FinalNorm(ctx context.Context, hidden Hidden, rows []int, step int) ([]float32, error) {
	var normed []float32
	err := h.onRows(ctx, hidden, rows, step, nil, func(w *workspace, in *input, n, module int) error {
		if err := w.growLogits(h.config.HiddenSize, n, 0); err != nil {
			return err
		}
		err := w.run(false, func(d hip.Device) error {
			if err := in.widen(d); err != nil {
				return err
			}
			return h.finalNorm(d, w, in.states, n, module)
		})
		if err != nil {
			return err
		}
		normed = make([]float32, n*h.config.HiddenSize)
		return w.read(normed, w.finalNormed.Ptr())
	})
	return normed, err
}

// onRows checks the arguments of Logits, and others by check if it is not nil. It brings
// the picked rows to the device and calls do, if there are any.
func (h *Head) onRows(ctx context.Context, hidden Hidden, rows []int, step int, check func() error, do func(w *workspace, in *input, n, module int) error) error {
	if err := h.enter(); err != nil {
		return err
	}
	defer h.leave()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("mtp: %w", err)
	}
	picked, err := h.pickRows(hidden, rows)
	if err != nil {
		return err
	}
	if step < 0 {
		return refuse("step", step, "at least 0", nil)
	}
	if check != nil {
		if err := check(); err != nil {
			return err
		}
	}
	if len(picked) == 0 {
		return nil
	}
	w := h.takeWorkspace()
	defer h.giveWorkspace(w, len(picked))
	if err := w.start(); err != nil {
		return err
	}
	in, err := h.gatherRows(w, &hidden, picked)
	if err != nil {
		return err
	}
	run := func() error { return do(w, &in, len(picked), step%len(h.modules)) }
	if h.ranks == nil {
		return run()
	}
	return h.together(ctx, fmt.Appendf(nil, "rows %v of step %d", picked, step), run)
}

// pickRows checks the rows that Logits is asked for.
func (h *Head) pickRows(hidden Hidden, rows []int) ([]int, error) {
	n, width := 0, h.config.HiddenSize
	switch {
	case hidden.Float32 != nil:
		n = len(hidden.Float32) / width
	case hidden.BFloat16 != nil:
		n = len(hidden.BFloat16) / width
	}
	if err := hidden.check("hidden", n, width); err != nil {
		return nil, err
	}
	if hidden.Device != 0 {
		return rows, h.checkDeviceRows(&hidden, rows)
	}
	if rows == nil {
		for r := range n {
			rows = append(rows, r)
		}
	}
	for i, r := range rows {
		if r < 0 || r >= n {
			return nil, refuse(fmt.Sprintf("rows[%d]", i), r, fmt.Sprintf("0 to %d", n-1), nil)
		}
	}
	return rows, nil
}

// checkDeviceRows checks rows of hidden states on the device. Only the device knows how
// many there are.
func (h *Head) checkDeviceRows(hidden *Hidden, rows []int) error {
	if rows == nil {
		return refuse("rows", "nil", "the rows of hidden states on the device", nil)
	}
	size := hidden.valueBytes()
	bytes := h.config.HiddenSize * size
	for i, r := range rows {
		bad := func(want string, err error) error { return refuse(fmt.Sprintf("rows[%d]", i), r, want, err) }
		if most := math.MaxInt/bytes - 1; r < 0 || r > most {
			return bad(fmt.Sprintf("0 to %d", most), nil)
		}
		err := h.checkRange(hidden.Device.Add(int64(r)*int64(bytes)), int64(bytes), false)
		if errors.Is(err, hip.ErrAccess) {
			if err := h.checkMemory("hidden.Device", hidden.Device, 1, size, false); err != nil {
				return err // not even the first row
			}
			return bad("a row of the device memory at hidden.Device", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// gatherRows brings the picked rows to the device, end to end.
func (h *Head) gatherRows(w *workspace, hidden *Hidden, rows []int) (in input, err error) {
	width := h.config.HiddenSize
	if hidden.Device == 0 {
		var some Hidden
		for _, r := range rows {
			if hidden.Float32 != nil {
				some.Float32 = append(some.Float32, hidden.Float32[r*width:(r+1)*width]...)
			} else {
				some.BFloat16 = append(some.BFloat16, hidden.BFloat16[r*width:(r+1)*width]...)
			}
		}
		in = w.stageInput(&some, len(rows)*width)
		if err := w.loadInput(&in, &some, &w.hiddenIn); err != nil {
			return in, err
		}
		err = w.up.Upload()
		in.place(w)
		return in, err
	}
	size, to := 4, &w.embedsIn.wide // not in use outside of a forward
	if hidden.DeviceBFloat16 {
		size = 2
	}
	if err := to.Grow(h.device, len(rows)*width, size); err != nil {
		return in, err
	}
	for i, r := range rows {
		n := int64(width * size)
		if err := h.device.Copy(to.Ptr().Add(int64(i)*n), hidden.Device.Add(int64(r)*n), n); err != nil {
			return in, err
		}
	}
	in = input{n: len(rows) * width}
	return in, w.loadInput(&in, &Hidden{Device: to.Ptr(), DeviceBFloat16: hidden.DeviceBFloat16}, &w.hiddenIn)
}

// growLogits makes room for finalNorm and logits.
func (w *workspace) growLogits(hidden, rows, vocab int) error {
	if err := w.split.Reserve(w.device, rows, hidden); err != nil {
		return err
	}
	return w.grow(need{&w.finalNormed, rows * hidden}, need{&w.logits, rows * vocab})
}

// finalNorm computes w.finalNorm of rows rows of states.
func (h *Head) finalNorm(d hip.Device, w *workspace, states hip.Ptr, rows, module int) error {
	return norm.RMSNorm(d, w.finalNormed.Ptr(), states, h.modules[module].finalNorm, rows, h.config.HiddenSize, h.config.Attention.Eps)
}

// logits computes w.logits of rows rows of states, rows × m.Rows; m is lm_head or what
// Draft has in its place, nil for a rank without tokens.
func (h *Head) logits(d hip.Device, w *workspace, m *weights.Matrix, states hip.Ptr, rows, module int) error {
	if err := h.finalNorm(d, w, states, rows, module); err != nil || m == nil {
		return err
	}
	return m.ProductSplit(d, w.logits.Ptr(), w.finalNormed.Ptr(), rows, &w.split)
}

// logitsOf is logits of an input.
func (h *Head) logitsOf(d hip.Device, w *workspace, m *weights.Matrix, in *input, rows, module int) error {
	if err := in.widen(d); err != nil {
		return err
	}
	return h.logits(d, w, m, in.states, rows, module)
}

// Embed returns the rows of embed_tokens for the tokens, len(tokens) × hidden_size float32,
// which the caller owns. It does not zero the row at position 0.
//
// A token outside of the vocabulary is an [InputError], a closed head
// is [ErrClosed]. Other errors are those of ctx and of the device.
func (h *Head) Embed(ctx context.Context, tokens []int32) ([]float32, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.leave()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mtp: %w", err)
	}
	for i, t := range tokens {
		if t < 0 || int(t) >= h.config.VocabSize {
			return nil, refuse(fmt.Sprintf("tokens[%d]", i), t, fmt.Sprintf("0 to %d", h.config.VocabSize-1), errToken)
		}
	}
	rows, n := len(tokens), h.config.HiddenSize
	if rows == 0 {
		return nil, nil
	}
	w := h.takeWorkspace()
	defer h.giveWorkspace(w, rows)
	if err := w.grow(need{&w.tokens, rows}, need{&w.embedsIn.wide, rows * n}); err != nil {
		return nil, err
	}
	if err := hip.WriteOf(h.device, w.tokens.Ptr(), tokens); err != nil {
		return nil, err
	}
	err := kernels.EmbedGather(h.device, h.embed, &kernels.EmbedGatherArgs{
		Out: w.embedsIn.wide.Ptr(), Tokens: w.tokens.Ptr(),
		Rows: int32(rows), Hidden: int32(n), Vocab: int32(h.config.VocabSize),
	})
	if err != nil {
		return nil, err
	}
	out := make([]float32, rows*n)
	return out, hip.ReadOf(h.device, out, w.embedsIn.wide.Ptr())
}
