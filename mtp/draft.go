package mtp

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
)

// Draft is what [Head.Draft] drafted for one sequence. Its slices are the caller's.
type Draft struct {
	// Tokens are the drafted tokens in their order, Rows.Drafts or fewer: a chain ends
	// early at Rows.MinProbability, at the last position that the rotary embedding
	// covers, and where the cache or the block table has no room for its rows.
	Tokens []int32

	// Probs are the softmax probabilities of Tokens.
	Probs []float32

	// Err says why the chain ended before it should: [ErrNaN]. The rows are committed all
	// the same, and other sequences are not concerned.
	Err error
}

// maxDraft bounds the length of a chain.
const maxDraft = 64

// Draft commits the batch's rows, built from what the target confirmed, and then drafts
// up to Rows.Drafts tokens for each sequence, greedily, by the head's rule (see [Chain]).
// It returns one Draft for each of b.Sequences, in their order. Of equal logits the lowest
// id is drafted. Options.DraftVocabulary says which tokens there are to draft,
// Options.DraftLMHead in what precision their logits are computed.
//
// With Drafts 0 a sequence's rows are committed and nothing is drafted: a piece of a
// prompt. Only the last row of each sequence that drafts gets a hidden state; the others
// only get keys and values. An aligned chain computes hidden states for all rows, except
// in its last step.
//
// A Sequence's rows must start at its Len. Draft reserves the pages it will write and
// copies those that a fork shares; an aligned chain starts one row fewer before Position
// than it has steps. The Sequence ends after the committed rows: what the chain itself
// wrote is provisional, and its pages are returned when Draft ends, with those reserved
// before.
//
// A chain of k drafts writes k−1 rows after the committed ones, unless it is aligned. If a
// sequence has no room for them, in its positions, in the cache or in its BlockTable, its
// chain is shorter, down to the first draft, which needs no row; in the order of the
// batch, each gets what it can. If it has no room for its confirmed rows, that is an error
// that names it, and nothing is done for any sequence.
//
// All steps are queued before anything is read back. Ids go from step to step on the
// device, and on one that records graphs ([hip.Replayer]) calls of the same shape become
// two launches: the first step's, and while it runs that of all others. If any sequence
// has a MinProbability, each step is waited for.
//
// Errors are those of [Head.Forward]. Drafts or MinProbability out of range are an
// [InputError] too, and with an aligned chain so are Batch.Embeds, unless it has one step,
// and a sequence that was changed otherwise than by Draft, which wraps [ErrNotAligned].
// When ctx ends before the last step is queued, or a launch fails, the sequences are as
// they were before the call.
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
	if err := chain.run(ctx); err != nil {
		return nil, c.rollback(err)
	}
	return chain.drafts, chain.commit()
}

// checkDraft checks what only Draft asks of a batch.
func (h *Head) checkDraft(b *Batch) error {
	most, name := maxDraft, ""
	if h.chain == ChainAligned {
		most, name = min(most, h.alignedSteps()), ": Options.MaxDraft of an aligned head"
		if h.alignedSteps() > 1 && b.Embeds.given() {
			return refuse("Embeds", "given", "tokens, which an aligned chain shifts", nil)
		}
	}
	for i := range b.Sequences {
		r := &b.Sequences[i]
		switch {
		case r.Drafts < 0 || r.Drafts > most:
			return refuseRows(i, "Drafts", r.Drafts, fmt.Sprintf("0 to %d%s", most, name), nil)
		case !(r.MinProbability >= 0 && r.MinProbability <= 1):
			return refuseRows(i, "MinProbability", r.MinProbability, "0 to 1", nil)
		case r.Sequence == nil && h.chain != ChainFirst:
			return refuseRows(i, "BlockTable", "given", "a Sequence, which "+string(h.chain)+" needs", nil)
		}
	}
	return nil
}

// claimDraft is the rows that a Draft writes in a sequence: the confirmed ones, then those
// of the chain. An aligned chain writes confirmed positions only, some of them again.
func (h *Head) claimDraft(r *Rows) attention.Claim {
	claim := attention.Claim{From: r.Position, To: r.Position + len(r.Tokens), Spare: max(0, r.Drafts-1)}
	if h.chain == ChainAligned {
		claim.From, claim.Spare = max(0, r.Position-(h.alignedSteps()-1)), 0
	}
	return claim
}

// checkSequences checks where sequences stand: Draft goes on from there.
func (c *call) checkSequences() error {
	for i := range c.batch.Sequences {
		r := &c.batch.Sequences[i]
		switch s := r.Sequence; {
		case s == nil:
		case r.Position < s.Len():
			return refuseRows(i, "Position", r.Position, fmt.Sprintf("%d, the rows that the sequence has", s.Len()), nil)
		case c.head.chain == ChainAligned && s.aligned != s.Len():
			return refuseRows(i, "Sequence", fmt.Sprintf("changed, with %d rows", s.Len()), "one changed by Draft alone", ErrNotAligned)
		}
	}
	return nil
}

// commit leaves each sequence at its committed rows, with what an aligned chain carries.
func (c *chain) commit() error {
	for i := range c.batch.Sequences {
		if r := &c.batch.Sequences[i]; r.Sequence != nil && c.carry != nil {
			r.Sequence.aligned, r.Sequence.carry = r.Position+len(r.Tokens), c.carry[i]
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
