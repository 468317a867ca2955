package mtp

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
	"github.com/drafthead/drafthead/mtp/internal/plan"
	"github.com/drafthead/drafthead/norm"
)

// queueStep queues a step on d: its hidden states, the module, the tokens drafted from it,
// and what it hands on.
func (c *chain) queueStep(d hip.Device, s, before *step) error {
	if before != nil {
		if err := c.feed(d, s, before); err != nil {
			return err
		}
	}
	// Two buffers in turn: a step reads what the one before gave while it runs. In Target it
	// reads what step 0 shared, in the second buffer.
	s.out = c.w.hidden.Ptr()
	if before != nil && before.out == s.out && c.plan.Rule != plan.Target {
		s.out = c.w.otherHidden.Ptr()
	}
	drafts := c.drafting(d)
	kept, after := drafts, drafts
	switch {
	case c.head.chain.shifts():
		kept, after = d, d
	case before == nil:
		kept = d
	}
	if err := c.queue(kept, after, s); err != nil {
		return err
	}
	if err := c.pick(drafts, s); err != nil {
		return err
	}
	return c.keep(d, s)
}

// feed gives a step its hidden states: rows that were handed on, or carried rows.
func (c *chain) feed(d hip.Device, s, before *step) error {
	given, rows := c.handedOn(before)
	if isAll(s.Sources, rows) {
		s.states = given
		return nil
	}
	s.states = c.w.hiddenIn.wide.Ptr()
	return kernels.TakeRows(d, &kernels.TakeRowsArgs{
		Out: s.states, From: given, Kept: c.w.up.At(s.carriedAt), Sources: c.w.up.At(s.sourcesAt),
		Rows: int32(len(s.Sources)), FromRows: int32(rows), KeptRows: int32(len(s.Carried)), Width: int32(c.head.config.HiddenSize),
	})
}

// handedOn returns what the steps up to s hand on to the next: all rows of s in an aligned
// chain, the target's states in a target-fed one, otherwise the rows that tokens were
// drafted from.
func (c *chain) handedOn(s *step) (states hip.Ptr, rows int) {
	switch {
	case c.plan.Rule == plan.Aligned:
		return s.out, s.Rows()
	case c.plan.Rule == plan.Target:
		return c.w.otherHidden.Ptr(), c.shared
	case c.head.options.PostNorm:
		return c.w.finalNormed.Ptr(), len(s.Picks)
	}
	return c.picked(s), len(s.Picks)
}

// picked returns the states that tokens are drafted from. If only some rows are wanted,
// these are the picks.
func (c *chain) picked(s *step) hip.Ptr {
	if s.Wanted != nil || isAll(s.Picks, s.Rows()) {
		return s.out
	}
	return c.w.picked.Ptr()
}

// isAll reports whether rows are those from 0 to n−1.
func isAll(rows []int32, n int) bool {
	if len(rows) != n {
		return false
	}
	for i, r := range rows {
		if int(r) != i {
			return false
		}
	}
	return true
}

// pick drafts a token from each of the step's picks.
func (c *chain) pick(d hip.Device, s *step) error {
	n, h, w := len(s.Picks), c.head, c.w
	if n == 0 {
		return nil
	}
	states := c.picked(s)
	if states != s.out {
		err := kernels.TakeRows(d, &kernels.TakeRowsArgs{
			Out: states, From: s.out, Sources: w.up.At(s.picksAt),
			Rows: int32(n), FromRows: int32(s.Rows()), Width: int32(h.config.HiddenSize),
		})
		if err != nil {
			return err
		}
	}
	if err := h.logits(d, w, h.draftHead.matrix, states, n, s.Module); err != nil {
		return err
	}
	if err := c.allow(d, s); err != nil {
		return err
	}
	to := kernels.Picked{IDs: w.down.At(s.FirstDraft), Probabilities: w.down.At(c.room + s.FirstDraft)}
	if err := h.pickTokens(d, w, to, w.up.At(s.plansAt), w.down.At(c.differsAt()), n, 1); err != nil {
		return err
	}
	return c.draw(d, s, to)
}

// keep makes what an aligned or target-fed step hands on, and keeps the rows of it that
// sequences carry to the next call. The last step hands nothing on.
func (c *chain) keep(d hip.Device, s *step) error {
	h, w, width := c.head, c.w, c.head.config.HiddenSize
	switch {
	case c.plan.Rule == plan.Aligned && s.Layer < c.plan.Steps-1 && h.options.PostNorm:
		if err := norm.RMSNorm(d, s.out, s.out, h.modules[s.Module].finalNorm, s.Rows(), width, h.config.Attention.Eps); err != nil {
			return err
		}
	case len(s.Shared) > 0:
		c.shared = len(s.Shared)
		err := kernels.TakeRows(d, &kernels.TakeRowsArgs{
			Out: w.otherHidden.Ptr(), From: s.states, Kept: w.up.At(s.carriedAt), Sources: w.up.At(s.sharedAt),
			Rows: int32(len(s.Shared)), FromRows: int32(c.rows), KeptRows: int32(len(s.Carried)), Width: int32(width),
		})
		if err != nil {
			return err
		}
	}
	if len(s.Keeps) == 0 {
		return nil
	}
	from, rows := c.handedOn(s)
	return kernels.TakeRows(d, &kernels.TakeRowsArgs{
		Out: w.down.At(c.keepsAt() + s.FirstKeep*width), From: from, Sources: w.up.At(s.keepsAt),
		Rows: int32(len(s.Keeps)), FromRows: int32(rows), Width: int32(width),
	})
}
