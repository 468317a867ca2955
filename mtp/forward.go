package mtp

import (
	"context"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/plan"
)

// Forward runs the rows of b through module step mod num_mtp_modules and returns their
// hidden states, rows × hidden_size, before the final norm. Logits takes them. They are the
// Batch.Hidden of the next step, after [Head.FinalNorm] if the head has Options.PostNorm.
// Forward writes the rows' keys and values to the module's layer of the cache. A sequence
// then ends at its last row, or where it ended before if that is later.
//
// The result is in Float32, which the caller owns, or in Batch.Output. Bad input and rows
// beyond Config().Attention.Rope.Positions are an [InputError], and a cache without room
// is an [attention.CacheFullError], which names the sequence; nothing has run then and
// nothing has changed. A closed head or cache is [ErrClosed].
//
// A module computes
//
//	e      = embed[token], and zero where position = 0
//	x      = eh_proj · concat( rms(e; enorm), rms(h; hnorm) )
//	r      = x + o_proj · attention( rms(x; input_layernorm) )
//	hidden = r + moe( rms(r; post_attention_layernorm) )
//	logits = lm_head · rms(hidden; final_layernorm)
//
//	rms(x; w) = x / √(mean(x²) + rms_norm_eps) · (1 + w)
//
// (module).forward, in module.go, has the first four formulas line by line; the last is in
// logits.go. Attention is block-sparse: package attention says which blocks a row sees. The
// experts are in package moe. [Chain] says which module runs at which step, and
// [Options.PostNorm] what the next step is fed with. Package mtp/reference computes the
// same in float64.
func (h *Head) Forward(ctx context.Context, b *Batch, step int) (out Hidden, err error) {
	if step < 0 {
		return Hidden{}, refuse("step", step, "at least 0", nil)
	}
	c, err := h.begin(ctx, b, h.checkOutput, func(_ int, r *Rows) (attention.Claim, error) {
		return attention.Claim{From: r.Position, To: r.Position + len(r.Tokens)}, nil
	})
	if err != nil {
		return Hidden{}, err
	}
	defer c.end()
	lengths := make([]int, len(b.Sequences)) // before
	for i := range b.Sequences {
		if s := b.Sequences[i].Sequence; s != nil {
			lengths[i] = s.kv.Len()
		}
	}
	committed := false
	defer func() { // also after a panic of an observer
		for i := range b.Sequences {
			if r := &b.Sequences[i]; r.Sequence != nil && (committed || r.Position < lengths[i]) {
				r.Sequence.changed(r.Position)
			}
		}
	}()
	run := func() error {
		out, err = c.hiddenStates(step % len(h.modules))
		return err
	}
	if h.ranks == nil {
		err = run()
	} else {
		err = h.together(ctx, b.appendPlan(nil, 'f', step), run)
	}
	if err != nil {
		return Hidden{}, c.rollback(err)
	}
	committed = true
	h.counters.rows.Add(int64(c.rows))
	return out, c.commit()
}

// hiddenStates runs all rows of the batch through a module.
func (c *call) hiddenStates(module int) (Hidden, error) {
	w, width := c.w, c.head.config.HiddenSize
	if err := w.start(); err != nil {
		return Hidden{}, err
	}
	sequences := c.planned()
	c.useEmbeds(sequences, 0)
	s := &step{Step: plan.All(module, sequences)}
	c.stageInput(s, true)
	if err := c.stage(s); err != nil {
		return Hidden{}, err
	}
	if err := c.reserve(s); err != nil {
		return Hidden{}, err
	}
	if s.out = c.batch.Output; s.out == 0 {
		if err := w.hidden.Grow(w.device, c.rows*width, 4); err != nil {
			return Hidden{}, err
		}
		s.out = w.hidden.Ptr()
	}
	if err := c.loadInput(s); err != nil {
		return Hidden{}, err
	}
	if err := w.up.Upload(); err != nil {
		return Hidden{}, err
	}
	c.place(s)
	if err := w.run(c.batch.Observe != nil, func(d hip.Device) error { return c.queue(d, d, s) }); err != nil {
		return Hidden{}, err
	}
	if c.batch.Output != 0 {
		_, err := w.wait(0)
		return Hidden{Device: c.batch.Output}, err
	}
	out := make([]float32, c.rows*width)
	return Hidden{Float32: out}, w.read(out, s.out)
}

// planned returns the batch's sequences as package plan takes them, without drafts.
func (c *call) planned() []plan.Sequence {
	sequences := make([]plan.Sequence, len(c.batch.Sequences))
	for i := range sequences {
		r := &c.batch.Sequences[i]
		sequences[i] = plan.Sequence{Position: r.Position, Tokens: r.Tokens}
	}
	return sequences
}

// useEmbeds has the tokens of sequences stand for the batch's embeddings, if there are any:
// −1−drafts−i for that of row i. Those from −1 to −drafts stand for drafts.
func (c *call) useEmbeds(sequences []plan.Sequence, drafts int) {
	if !c.batch.Embeds.given() {
		return
	}
	row := 0
	for i := range sequences {
		s := &sequences[i]
		s.Tokens = make([]int32, len(s.Tokens))
		for j := range s.Tokens {
			s.Tokens[j] = int32(-1 - drafts - row)
			row++
		}
	}
}

// checkOutput checks Batch.Output.
func (h *Head) checkOutput(b *Batch) error {
	if b.Output == 0 {
		return nil
	}
	return h.checkMemory("Output", b.Output, b.rows(), 4, true)
}
