package mtp

import (
	"cmp"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
	"github.com/drafthead/drafthead/mtp/internal/sampling"
	"github.com/drafthead/drafthead/mtp/internal/staging"
)

// draws reports whether the drafts after the rows are drawn.
func (r *Rows) draws() bool { return r.Drafts > 0 && r.Sampling != nil && r.Sampling.Temperature > 0 }

// stageSampling adds to the words how the drafts of the n-th step are drawn, and from which
// tokens.
func (c *chain) stageSampling(n int, s *step) error {
	if c.most > 0 {
		c.w.up.Align()
		s.paramsAt = c.w.up.Len()
		for _, row := range s.Picks {
			r := &c.batch.Sequences[s.SpanOf(row).Sequence]
			p := sampling.Params{Flags: sampling.FlagGreedy}
			if r.draws() {
				p = r.Sampling.params(r.Position+len(r.Tokens)+1, n)
				p.Least = r.MinProbability
			}
			c.w.up.Add(sampling.AppendParams(nil, &p))
		}
	}
	var rows, words []int32
	for i, row := range s.Picks {
		mask, err := c.mask(s.SpanOf(row).Sequence)
		if err != nil {
			return err
		}
		if mask == nil {
			continue
		}
		rows = append(rows, int32(i))
		for _, word := range mask {
			words = append(words, int32(word))
		}
	}
	if s.masks = len(rows); s.masks > 0 {
		s.maskRowsAt, s.masksAt = c.w.up.Add(rows), c.w.up.Add(words)
	}
	return nil
}

// mask asks for the mask of a sequence's next draft. If no token that it allows can be
// drafted, it ends the chain.
func (c *chain) mask(sequence int) ([]uint32, error) {
	r, tokens := &c.batch.Sequences[sequence], c.drafts[sequence].Tokens
	if r.Allowed == nil {
		return nil, nil
	}
	mask := r.Allowed(tokens[:len(tokens):len(tokens)])
	if mask == nil {
		return nil, nil
	}
	err := c.head.checkMask(sequence, len(tokens), mask, refuseRows)
	if ranks := c.head.ranks; ranks != nil {
		ranks.planMask(mask, err)
		if err != nil { // the others learn of it from the exchange of this step
			c.refused = cmp.Or(c.refused, err)
			return nil, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if v := c.head.draftHead.vocabulary; v != nil && !slices.ContainsFunc(v, func(token int32) bool { return allowed(mask, token) }) {
		c.plan.End(sequence)
		return nil, nil
	}
	return mask, nil
}

// allow excludes the tokens of a step's logits that its masks do.
func (c *chain) allow(d hip.Device, s *step) error {
	if s.masks == 0 || c.head.draftHead.own == 0 {
		return nil
	}
	h, w := c.head, c.w
	return sampling.Allow(d, w.logits.Ptr(), w.up.At(s.masksAt), w.up.At(s.maskRowsAt), h.draftHead.tokens,
		len(s.Picks), s.masks, h.draftHead.own, h.maskWords(), false)
}

// draw draws a step's drafts, in the place of the most likely tokens.
func (c *chain) draw(d hip.Device, s *step, to kernels.Picked) error {
	if c.most == 0 {
		return nil
	}
	h, w := c.head, c.w
	ids := c.listsAt() + c.room
	out := sampling.Listed{
		IDs: to.IDs, Probabilities: to.Probabilities, Counts: w.down.At(c.listsAt() + s.FirstDraft),
		ListIDs: w.down.At(ids + s.FirstDraft*c.most), ListWeights: w.down.At(ids + (c.room+s.FirstDraft)*c.most),
	}
	logits, tokens := &w.logits, h.draftHead.tokens
	if h.ranks != nil {
		if err := h.join(d, w, len(s.Picks), &h.draftHead.columns); err != nil {
			return err
		}
		logits, tokens = &w.joined, h.draftHead.all
	}
	return w.sampler.List(d, out, logits.Ptr(), tokens, w.up.At(s.paramsAt), len(s.Picks), h.draftHead.count, c.most)
}

// list returns what a draft was drawn from; nothing if it is the most likely token, since
// all logits are −∞.
func (c *chain) list(values []int32, slot int) distribution {
	n, at := int(values[c.listsAt()+slot]), c.listsAt()+c.room
	if n == 0 {
		return distribution{}
	}
	ids := values[at+slot*c.most:][:n]
	weights := values[at+(c.room+slot)*c.most:][:n]
	return distribution{slices.Clone(ids), slices.Clone(staging.Floats(weights))}
}
