package mtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

// Forward runs the rows of b through module step mod num_mtp_modules and returns
// their hidden states, rows × hidden_size, before the final norm: what Logits takes, and
// the Batch.Hidden of the next step, or with Options.PostNorm what [Head.FinalNorm] makes
// of them. The rows' keys and values are written to the module's layer of the cache; a
// sequence then ends at its last row, or where it ended before if that is later.
//
// The result is Float32 memory of the caller's, or Batch.Output. Bad input is an
// [InputError], rows that reach beyond Config().Rope.Positions() are an
// [attention.PositionError], a cache without room is an [attention.CacheFullError]; nothing
// has run then and nothing has changed.
func (h *Head) Forward(ctx context.Context, b *Batch, step int) (out Hidden, err error) {
	if err := h.enter(); err != nil {
		return Hidden{}, err
	}
	defer h.leave()
	if step < 0 {
		return Hidden{}, &InputError{Sequence: -1, Field: "step", Got: step, Want: "at least 0"}
	}
	if err := ctx.Err(); err != nil {
		return Hidden{}, err
	}
	r, err := h.check(b)
	if err != nil {
		return Hidden{}, err
	}
	if b.Output != 0 {
		if err := h.checkMemory("Output", b.Output, r.total, 4, true); err != nil {
			return Hidden{}, err
		}
	}
	err = h.reserve(r, func(i int) (from, to int) {
		s := &b.Sequences[i]
		return s.Position, s.Position + len(s.Tokens)
	})
	if err != nil {
		return Hidden{}, err
	}
	defer func() { r.release(err == nil) }()
	w := h.take()
	defer h.give(w)
	out, err = h.forwardOut(w, h.newPass(w, r, step%len(h.modules)))
	if err != nil {
		err = errors.Join(err, r.rollback())
		out = Hidden{}
	}
	for i, rows := range b.Sequences {
		if rows.Sequence != nil && (err == nil || rows.Position < r.before[i].Len()) {
			rows.Sequence.changed()
		}
	}
	return out, err
}

func (h *Head) forwardOut(w *workspace, p *pass) (Hidden, error) {
	if err := w.begin(); err != nil {
		return Hidden{}, err
	}
	p.takeInput()
	if err := p.encode(0); err != nil {
		return Hidden{}, err
	}
	if err := p.makeRoom(); err != nil {
		return Hidden{}, err
	}
	p.out = p.batch.Output
	if p.out == 0 {
		if err := w.hidden.grow(w.device, p.rows*h.config.HiddenSize, 4); err != nil {
			return Hidden{}, err
		}
		p.out = w.hidden.ptr
	}
	if err := p.loadInput(); err != nil {
		return Hidden{}, err
	}
	if err := w.words.upload(w.device, w.sharer); err != nil {
		return Hidden{}, err
	}
	p.place()
	if err := w.run(p.batch.Observe != nil, p.launch); err != nil {
		return Hidden{}, err
	}
	if p.batch.Output != 0 {
		_, err := w.wait()
		return Hidden{Device: p.batch.Output}, err
	}
	out := make([]float32, p.rows*h.config.HiddenSize)
	return Hidden{Float32: out}, w.read(out, p.out)
}

// reserve takes the pages of the positions that a call will write in each Sequence, or
// none at all, after everything else was checked. Until release it holds the cache's
// pager.
func (h *Head) reserve(r *resolved, written func(i int) (from, to int)) error {
	if err := h.checkWritten(r, written); err != nil {
		return err
	}
	if err := r.hold(); err != nil {
		return err
	}
	r.before = make([]attention.State, len(r.Sequences))
	for i := range r.Sequences {
		if s := r.Sequences[i].Sequence; s != nil {
			r.before[i] = s.kv.State()
		}
	}
	for i := range r.Sequences {
		s := r.Sequences[i].Sequence
		if s == nil {
			continue
		}
		from, to := written(i)
		if err := s.kv.ReserveRange(from, to); err != nil {
			r.release(false)
			return errors.Join(fmt.Errorf("sequence %d: %w", i, closedError(err)), r.rollback())
		}
	}
	return nil
}
