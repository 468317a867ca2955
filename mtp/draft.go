package mtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

// Draft holds the tokens that [Head.Draft] drafted for one sequence. The caller owns its
// slices.
type Draft struct {
	// Tokens are the drafted tokens in order, Rows.Drafts or fewer. A chain ends early at
	// Rows.MinProbability, at the last position that the rotary embedding covers, or when
	// the cache or the block table has no room for its rows.
	Tokens []int32

	// Probs are the softmax probabilities of Tokens, at temperature 1 and among all tokens
	// that Rows.Allowed allows.
	Probs []float32

	// Err says that a probability was not a number, which ended the chain: hidden states or
	// weights hold NaN. The rows are committed nevertheless, and other sequences are not
	// affected. Otherwise it is nil.
	Err error

	// drawn is what each token was drawn from; without ids: it was the most likely one.
	// nil: all were.
	drawn []distribution
}

// maxDraft bounds the length of a chain.
const maxDraft = 64

// Draft commits the batch's rows, which the target has confirmed, and then drafts up to
// Rows.Drafts tokens for each sequence, by the head's rule (see [Chain]). It returns one
// Draft for each of b.Sequences, in their order. It drafts the most likely token, the lowest
// id if logits are equal, or draws one as Rows.Sampling says. Options.DraftVocabulary and
// Rows.Allowed say which tokens can be drafted, and Options.DraftLMHead and
// Options.DraftActivations in what precision.
//
// With Drafts 0 a sequence's rows are committed and nothing is drafted, for example for a
// piece of a prompt. Only the last row of each sequence that drafts gets a hidden state;
// the others only get keys and values. An aligned chain computes hidden states for all
// rows, except in its last step.
//
// A Sequence's rows must start at its Len, or, where a chain that shifts tokens has to run
// rows again, at [Sequence.Resume] or before. Draft reserves the pages it will write and
// copies those that a fork shares; such a chain writes rows again from one row fewer before
// Position than it has steps. The Sequence ends after the committed rows: rows that the chain
// itself wrote are provisional, and their pages go back to the cache when Draft ends, with
// those reserved before.
//
// A chain of k drafts writes k−1 rows after the committed ones, unless it shifts tokens. If a
// sequence has no room for them, in its positions, in the cache or in its BlockTable, its
// chain is shorter. The first draft needs no row, so it is always there. Sequences get room
// in the order of the batch. If a sequence has no room for its confirmed rows, the error
// names it, and nothing is done for any sequence.
//
// Draft queues all steps before it reads anything back: ids go from step to step on the
// device. On a device that records graphs ([hip.Replayer]), a call of a shape that came
// before is two launches: one for the first step and, queued while that runs, one for all
// others. If any sequence has a MinProbability or an Allowed, Draft waits for each step.
//
// Errors are those of [Head.Forward]. Drafts, MinProbability or a field of Sampling out of
// range, and a mask of Allowed that is wrong, are an [InputError] too, and so are rows that
// begin too late for a chain that shifts tokens: the error says where they have to begin. If
// ctx ends before the last step is queued, or a launch fails, the sequences are as they were
// before the call.
func (h *Head) Draft(ctx context.Context, b *Batch) ([]Draft, error) {
	c, err := h.begin(ctx, b, h.checkDraft, h.claimDraft)
	if err != nil {
		return nil, err
	}
	defer c.end()
	if err := c.checkSequences(); err != nil {
		return nil, c.rollback(err)
	}
	chain := newChain(c)
	if err := chain.together(ctx); err != nil {
		return nil, c.rollback(err)
	}
	err = chain.commit()
	if err == nil {
		chain.count()
	}
	return chain.drafts, err
}

// checkDraft checks what only Draft asks of a batch.
func (h *Head) checkDraft(b *Batch) error {
	most, name := maxDraft, ""
	if h.chain.shifts() {
		most, name = min(most, h.alignedSteps()), ": Options.MaxDraft of an aligned head"
	}
	for i := range b.Sequences {
		r := &b.Sequences[i]
		switch {
		case r.Drafts < 0 || r.Drafts > most:
			return refuseRows(i, "Drafts", r.Drafts, fmt.Sprintf("0 to %d%s", most, name), nil)
		case !(r.MinProbability >= 0 && r.MinProbability <= 1):
			return refuseRows(i, "MinProbability", r.MinProbability, "0 to 1", nil)
		case r.Sampling != nil && r.Sampling.check(i, refuseRows) != nil:
			return r.Sampling.check(i, refuseRows)
		case r.Sequence == nil && h.chain.shifts() && r.Position > 0 && len(r.Tokens) < h.alignedSteps():
			return h.refuseShortTable(i, r)
		}
	}
	return nil
}

// refuseShortTable is the error of rows of a BlockTable that begin too late for a chain that
// shifts: one row fewer than it has steps run again before a new one, or all that there are.
func (h *Head) refuseShortTable(i int, r *Rows) error {
	end, steps := r.Position+len(r.Tokens), h.alignedSteps()
	want := fmt.Sprintf("at position %d or before: a BlockTable brings %d rows again before a new one", max(0, end-steps), steps-1)
	if end <= steps {
		want = fmt.Sprintf("at position 0: a BlockTable brings %d rows again before a new one, or all before it", steps-1)
	}
	return refuseRows(i, "Position", fmt.Sprintf("%d, of %d rows", r.Position, len(r.Tokens)), want, nil)
}

// claimDraft returns the rows that a Draft writes in a sequence: the confirmed ones, then
// those of the chain. A chain that shifts writes only confirmed positions, some of them
// again. Modules that run only their own rows keep none from call to call but the first.
func (h *Head) claimDraft(i int, r *Rows) (attention.Claim, error) {
	if r.Sequence.Len() > 0 { // 0 also if it is closed, which the cache refuses
		if err := r.checkPosition(i); err != nil {
			return attention.Claim{}, err
		}
	}
	claim := attention.Claim{From: r.Position, To: r.Position + len(r.Tokens), Spare: max(0, r.Drafts-1)}
	switch {
	case h.chain.shifts():
		claim.Spare = 0
		if !r.again() {
			claim.From = max(0, r.Position-(h.alignedSteps()-1))
		}
	case h.chain == ChainModOwn && r.Sequence == nil:
		claim.Layers = 1
	}
	return claim, nil
}

// again reports whether a chain that shifts runs all rows at all steps, since the sequence
// carries nothing, or they begin before its end.
func (r *Rows) again() bool {
	return r.Sequence == nil || r.Sequence.carry == nil || r.Position < r.Sequence.Len()
}

// checkSequences checks that the rows start where their sequences end, or where a chain has
// to run rows again.
func (c *call) checkSequences() error {
	for i := range c.batch.Sequences {
		if r := &c.batch.Sequences[i]; r.Sequence != nil {
			if err := r.checkPosition(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkPosition is checkSequences for the rows of Sequences[i].
func (r *Rows) checkPosition(i int) error {
	n, resume, from := r.Sequence.Len(), r.Sequence.Resume(), r.Sequence.wholeFrom()
	if r.Position == n && resume == n || r.Position <= from && r.Position+len(r.Tokens) >= n {
		return nil
	}
	want := fmt.Sprintf("%d, the rows that the sequence has", n)
	switch {
	case r.Position <= from:
		got := fmt.Sprintf("%d rows at position %d", len(r.Tokens), r.Position)
		return refuseRows(i, "Tokens", got, fmt.Sprintf("at least %d, up to the end of the sequence", n-r.Position), nil)
	case resume < n:
		want = fmt.Sprintf("at most %d: the rows from there on run again", from)
	case from >= 0:
		want += fmt.Sprintf(", or at most %d, to run those after it again", from)
	}
	return refuseRows(i, "Position", r.Position, want, nil)
}

// commit ends each sequence at its committed rows and stores what a chain that shifts carries.
func (c *chain) commit() error {
	for i := range c.batch.Sequences {
		if r := &c.batch.Sequences[i]; r.Sequence != nil && c.carry != nil {
			r.Sequence.whole, r.Sequence.carry = r.Position+len(r.Tokens), c.carry[i]
		}
	}
	errs := []error{c.call.commit()}
	for i := range c.batch.Sequences {
		if r := &c.batch.Sequences[i]; r.Sequence != nil { // pages reserved before go too
			errs = append(errs, ofAttention("mtp: draft", r.Sequence.kv.Truncate(r.Position+len(r.Tokens))))
		}
	}
	return errors.Join(errs...)
}
