package mtp

import (
	"context"
	"errors"
	"fmt"
)

// Draft commits the batch's rows, built from what the target confirmed, and then
// drafts up to k tokens for each sequence, greedily, by the head's rule (see
// [Chain]). ids[i] and probs[i] are the drafts of Sequences[i] and their softmax
// probabilities; they are shorter than k only where Options.MinProbability ended
// them. Of equal logits the lowest id is drafted. Options.DraftVocabulary says
// which tokens there are to draft, Options.DraftLMHead in what precision their
// logits are computed.
//
// With k 0 the rows are committed and nothing is drafted: a piece of a prompt. Of all
// rows but the last of each sequence only keys and values are computed, and with k 0 of
// that one too; an aligned chain needs hidden states of all of them, but in its last
// step.
//
// A Sequence's rows must start at its Len, and it ends behind the committed
// rows: what the chain itself wrote is provisional, and gone.
//
// k is 0 to 64, and of an aligned chain at most Options.MaxDraft, or num_mtp_modules where
// that is 0. The chain writes rows at k−1 positions behind the committed ones, unless it is
// aligned, and these need positions and pages as well:
//
//	end    Position + len(Tokens) + max(0, k−1)    aligned: Position + len(Tokens)
//	needs  end ≤ Config().Rope.Positions(), and pages for positions 0 … end−1
//
// A Sequence takes the pages that it has not got, and a copy of each that a fork shares and
// rows are written to, of an aligned chain from as many rows before Position as it has
// steps; pages behind the committed rows it gives back at the end. A BlockTable holds
// ⌈end ÷ PageSize⌉ pages. One sequence that comes to the end of its positions, or a cache
// without room, refuses the whole batch: lower k for all of it, or give that sequence a
// call of its own.
//
// All k steps are queued before anything is read back: ids go from step to step on
// the device, and on one that records graphs ([hip.Capturer]) calls of the same shape
// become two launches: the first step's, and while it runs that of all others. With
// Options.MinProbability each step is waited for.
//
// Errors are those of [Head.Forward]. A k out of range is an [InputError] too, and so are
// with an aligned chain Batch.Embeds, unless it has one step, and a sequence that was
// changed otherwise than by Draft, which wraps [ErrNotAligned]. When ctx ends before the
// last step is queued, or a launch fails, the sequences are as they were before the call.
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
	r.k = k
	provisional := max(0, k-1)
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
	defer func() { r.release(err == nil) }()
	w := h.take()
	defer h.give(w)
	d := newDrafting(h, w, r, k)
	if err := d.run(ctx); err != nil {
		return nil, nil, errors.Join(err, r.rollback())
	}
	return d.ids, d.probs, d.commit()
}

func (h *Head) checkDraft(r *resolved, k int) error {
	if k < 0 || k > maxDraft {
		return &InputError{Sequence: -1, Field: "k", Got: k, Want: fmt.Sprintf("0 to %d", maxDraft)}
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

	last  *draftStep // that was planned
	slots [][]int32  // by sequence: which drafts of the segment are its next ids
}

func newDrafting(h *Head, w *workspace, r *resolved, k int) *drafting {
	n := len(r.Sequences)
	d := &drafting{head: h, w: w, batch: r, k: k, ids: make([][]int32, n), probs: make([][]float32, n), live: make([]bool, n), slots: make([][]int32, n)}
	for i := range d.live {
		d.live[i] = true
	}
	return d
}

// run runs the steps of the chain: all at once, or each by itself where its
// probabilities say which sequences go on.
func (d *drafting) run(ctx context.Context) error {
	h := d.head
	steps, plan, most := max(1, d.k), d.planChained, d.batch.total
	if h.chain == ChainAligned {
		steps, plan = h.alignedSteps(), d.planAligned
		d.carry = make([][][]float32, len(d.batch.Sequences))
		for i := range d.carry {
			d.carry[i] = make([][]float32, steps)
			most += min(steps-1, d.batch.Sequences[i].Position)
		}
	}
	if err := d.w.growStates(h.config.HiddenSize, most, len(d.batch.Sequences)); err != nil {
		return err
	}
	together := steps
	if h.options.MinProbability > 0 {
		together = 1
	}
	for from := 0; from < steps; from += together {
		s := &segment{drafting: d, most: together}
		if err := s.begin(); err != nil {
			return err
		}
		s.add(plan(s, from))
		if len(s.steps) == 0 { // nor has a later one rows
			return nil
		}
		if err := s.queue(ctx, together == 1); err != nil {
			return err
		}
		if together > 1 { // the device works on the first step meanwhile
			for step := from + 1; step < from+together; step++ {
				s.add(plan(s, step))
			}
			if err := s.queue(ctx, true); err != nil {
				return err
			}
		}
		if err := s.collect(); err != nil {
			return err
		}
	}
	return nil
}

// token is draft number n of a sequence: an id, or −1−i for draft i of the segment
// that is being planned.
func (d *drafting) token(sequence, n int) int32 {
	if known := d.ids[sequence]; n < len(known) {
		return known[n]
	}
	return -1 - d.slots[sequence][n-len(d.ids[sequence])]
}

// take adds a draft to its sequence, or ends the sequence's drafting before it.
func (d *drafting) take(sequence int, id int32, probability float32) {
	if least := d.head.options.MinProbability; least > 0 && !(float64(probability) >= least) { // NaN ends it too
		d.live[sequence] = false
		return
	}
	d.ids[sequence] = append(d.ids[sequence], id)
	d.probs[sequence] = append(d.probs[sequence], probability)
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
