package mtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// Draft commits the batch's rows, built from what the target confirmed, and then
// drafts up to k tokens for each sequence, greedily, by the head's rule (see
// [Chain]). ids[i] and probs[i] are the drafts of Sequences[i] and their softmax
// probabilities; they are shorter than k only where Options.MinProbability ended
// them. Of equal logits the lowest id is drafted. Options.DraftVocabulary says
// which tokens there are to draft, Options.DraftLMHead in what precision their
// logits are computed.
//
// A Sequence's rows must start at its Len, and it ends behind the committed
// rows: what the chain itself wrote is provisional, and gone. With a BlockTable
// the pages must reach to k−1 positions behind the committed rows.
//
// Errors are those of [Head.Forward]. When ctx ends between two steps, or a
// launch fails, the sequences are as they were before the call.
func (h *Head) Draft(ctx context.Context, b *Batch, k int) (ids [][]int32, probs [][]float32, err error) {
	if err := h.enter(); err != nil {
		return nil, nil, err
	}
	defer h.leave()
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	r, err := h.check(b)
	if err != nil {
		return nil, nil, err
	}
	if err := h.checkDraft(r, k); err != nil {
		return nil, nil, err
	}
	// The chain's own rows, beyond those of the batch.
	provisional := k - 1
	if h.chain == ChainAligned {
		provisional = 0
	}
	err = h.reserve(r, func(i int) (from, to int) {
		s := &r.Sequences[i]
		from = s.Position
		if h.chain == ChainAligned { // later steps run some rows again
			from = max(0, from-h.alignedSteps())
		}
		return from, s.Position + len(s.Tokens) + provisional
	})
	if err != nil {
		return nil, nil, err
	}
	w := h.take()
	defer h.give(w)
	d := newDrafting(h, w, r, k)
	if h.chain == ChainAligned {
		err = d.aligned(ctx)
	} else {
		err = d.chained(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, rollback(b.Sequences, r.lengths))
	}
	return d.ids, d.probs, d.commit()
}

func (h *Head) checkDraft(r *resolved, k int) error {
	if k < 1 || k > maxDraft {
		return &InputError{Sequence: -1, Field: "k", Got: k, Want: fmt.Sprintf("1 to %d", maxDraft)}
	}
	if h.chain == ChainAligned && k > h.alignedSteps() {
		return &InputError{Sequence: -1, Field: "k", Got: k, Want: fmt.Sprintf("at most Options.MaxDraft, %d, of an aligned head", h.alignedSteps())}
	}
	if h.chain == ChainAligned && h.alignedSteps() > 1 && r.Embeds.given() {
		return &InputError{Sequence: -1, Field: "Embeds", Got: "given", Want: "tokens, which an aligned chain shifts"}
	}
	for i := range r.Sequences {
		s := &r.Sequences[i]
		if s.Sequence == nil {
			if h.chain != ChainFirst {
				return &InputError{Sequence: i, Field: "BlockTable", Got: "given", Want: "a Sequence, which " + string(h.chain) + " needs"}
			}
			continue
		}
		if s.Position != s.Sequence.Len() {
			return &InputError{Sequence: i, Field: "Position", Got: s.Position, Want: fmt.Sprintf("%d, the rows that the sequence has", s.Sequence.Len())}
		}
		if h.chain == ChainAligned {
			if err := s.Sequence.alignedReady(); err != nil {
				return &InputError{Sequence: i, Field: "Sequence", Got: "changed", Want: "one changed by Draft alone", Err: err}
			}
		}
	}
	return nil
}

// drafting is the state of one Draft.
type drafting struct {
	head  *Head
	w     *workspace
	batch *resolved
	k     int
	ids   [][]int32
	probs [][]float32
	live  []bool        // sequences that still draft
	carry [][][]float32 // by sequence and step: what the aligned rule keeps
}

func newDrafting(h *Head, w *workspace, r *resolved, k int) *drafting {
	n := len(r.Sequences)
	d := &drafting{head: h, w: w, batch: r, k: k, ids: make([][]int32, n), probs: make([][]float32, n), live: make([]bool, n)}
	for i := range d.live {
		d.live[i] = true
	}
	return d
}

// chained is ChainFirst and ChainModOwn: step 0 runs the batch, each later step
// one row for each sequence, at the next position, with the token and the hidden
// state that the step before gave.
func (d *drafting) chained(ctx context.Context) error {
	h := d.head
	p := h.newPass(d.w, d.batch, 0)
	if err := p.loadInput(); err != nil {
		return err
	}
	for step := 0; ; step++ {
		hidden, err := d.step(ctx, p)
		if err != nil {
			return err
		}
		last, end := make([]int, 0, len(p.spans)), 0
		for _, s := range p.spans {
			end += s.rows
			last = append(last, end-1)
		}
		states, err := d.rowsOf(hidden, last)
		if err != nil {
			return err
		}
		if err := d.pick(states, p); err != nil || step == d.k-1 {
			return err
		}
		if p, err = d.next(p, states, step+1); err != nil || p == nil {
			return err
		}
	}
}

// step runs a pass; its hidden states stay in the workspace.
func (d *drafting) step(ctx context.Context, p *pass) (hip.Ptr, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := d.w.hidden.grow(d.w.device, p.rows*d.head.config.HiddenSize, 4); err != nil {
		return 0, err
	}
	p.out = d.w.hidden.ptr
	return p.out, p.run()
}

// rowsOf copies the picked rows together, into w.hiddenIn.
func (d *drafting) rowsOf(hidden hip.Ptr, rows []int) (hip.Ptr, error) {
	width := int64(d.head.config.HiddenSize) * 4
	if err := d.w.hiddenIn.grow(d.w.device, len(rows), int(width)); err != nil {
		return 0, err
	}
	for i, r := range rows {
		if err := d.w.device.Copy(d.w.hiddenIn.ptr.Add(int64(i)*width), hidden.Add(int64(r)*width), width); err != nil {
			return 0, err
		}
	}
	return d.w.hiddenIn.ptr, nil
}

// pick drafts the next token of each of the pass's sequences from its state.
func (d *drafting) pick(states hip.Ptr, p *pass) error {
	unembed := &d.head.drafts
	if err := d.head.logits(d.w, unembed.matrix, states, len(p.spans), p.module); err != nil {
		return err
	}
	rows, probs, err := d.head.greedy(d.w, len(p.spans), unembed.matrix.Rows)
	if err != nil {
		return err
	}
	for i, s := range p.spans {
		if least := d.head.options.MinProbability; least > 0 && !(float64(probs[i]) >= least) { // NaN ends it too
			d.live[s.sequence] = false
			continue
		}
		d.ids[s.sequence] = append(d.ids[s.sequence], unembed.token(rows[i]))
		d.probs[s.sequence] = append(d.probs[s.sequence], probs[i])
	}
	return nil
}

// next is the pass of a later step over the sequences that still draft; nil when
// none does. states holds one row for each sequence of the pass before.
func (d *drafting) next(before *pass, states hip.Ptr, step int) (*pass, error) {
	h := d.head
	if h.options.PostNorm {
		if err := d.postNorm(states, len(before.spans), before.module); err != nil {
			return nil, err
		}
	}
	module := 0
	if h.chain == ChainModOwn {
		module = step % len(h.modules)
	}
	p := &pass{head: h, w: d.w, batch: d.batch, module: module, layer: module, states: states}
	width := int64(h.config.HiddenSize) * 4
	for i, s := range before.spans {
		if !d.live[s.sequence] {
			continue
		}
		if j := len(p.spans); j != i { // close the gap; the source is behind
			if err := d.w.device.Copy(states.Add(int64(j)*width), states.Add(int64(i)*width), width); err != nil {
				return nil, err
			}
		}
		drafted := d.ids[s.sequence]
		p.add(s.sequence, s.end(), drafted[len(drafted)-1])
	}
	if p.rows == 0 {
		return nil, nil
	}
	return p, nil
}

// postNorm replaces rows of states by rms(states; final_layernorm).
func (d *drafting) postNorm(states hip.Ptr, rows, module int) error {
	h := d.head
	return norm.RMSNorm(h.device, states, states, h.modules[module].finalNorm, rows, h.config.HiddenSize, h.config.RMSNormEps)
}

// commit leaves each sequence at its committed rows.
func (d *drafting) commit() error {
	var errs []error
	for i := range d.batch.Sequences {
		rows := &d.batch.Sequences[i]
		if s := rows.Sequence; s != nil {
			end := rows.Position + len(rows.Tokens)
			errs = append(errs, s.kv.Truncate(end))
			if d.carry != nil {
				s.aligned, s.carry = end, d.carry[i]
			}
		}
	}
	return errors.Join(errs...)
}
