package mtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

// Forward runs the rows of b through module step mod num_mtp_modules and returns
// their hidden states, rows × hidden_size, before the final norm: what the next
// step takes, and what Logits takes. The rows' keys and values are written to
// the module's layer of the cache; a sequence then ends at its last row, or
// where it ended before if that is later.
//
// The result is Float32 memory of the caller's, or Batch.Output. Bad input is an
// [InputError], a position that the rotary embedding does not cover an
// [attention.PositionError] or [attention.RangeError], a cache without room an
// [attention.CacheFullError]; nothing has run then and nothing has changed.
func (h *Head) Forward(ctx context.Context, b *Batch, step int) (Hidden, error) {
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
	w := h.take()
	defer h.give(w)
	p := h.newPass(w, r, step%len(h.modules))
	if err := h.reserve(r, func(i int) (from, to int) { return p.spans[i].from, p.spans[i].end() }); err != nil {
		return Hidden{}, err
	}
	out, err := h.forwardOut(w, p)
	if err != nil {
		err = errors.Join(err, rollback(b.Sequences, r.lengths))
		out = Hidden{}
	}
	for i, rows := range b.Sequences {
		if rows.Sequence != nil && (err == nil || rows.Position < r.lengths[i]) {
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

// reserve takes the pages of the positions that a call will write in each
// Sequence, or none at all, and checks that each BlockTable has them.
func (h *Head) reserve(r *resolved, written func(i int) (from, to int)) error {
	for i := range r.Sequences {
		s := &r.Sequences[i]
		from, to := written(i)
		var err error
		if s.Sequence != nil {
			err = s.Sequence.kv.ReserveRange(from, to)
		} else {
			err = r.cache.checkTable(s.BlockTable, to)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("sequence %d: %w", i, closedError(err)), rollback(r.Sequences, r.lengths))
		}
	}
	return nil
}

// checkTable tells whether an engine's block table has pages of the cache for
// all positions before end.
func (c *Cache) checkTable(table []int32, end int) error {
	if limit := c.head.config.Rope.Positions(); end < 0 || end > limit {
		return &attention.PositionError{Position: end - 1, Limit: limit}
	}
	blocks := (end + c.PageSize() - 1) / c.PageSize()
	if len(table) < blocks {
		return &InputError{Sequence: -1, Field: "len(BlockTable)", Got: len(table), Want: fmt.Sprintf("at least %d, for position %d", blocks, end-1)}
	}
	for i, page := range table[:blocks] {
		if page < 0 || int(page) >= c.Pages() {
			return &InputError{Sequence: -1, Field: fmt.Sprintf("BlockTable[%d]", i), Got: page, Want: fmt.Sprintf("0 to %d", c.Pages()-1)}
		}
	}
	return nil
}
