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
	// Two buffers in turn: a step reads what the one before gave while it runs.
	s.out = c.w.hidden.Ptr()
	if before != nil && before.out == s.out {
		s.out = c.w.otherHidden.Ptr()
	}
	if err := c.queue(d, s); err != nil {
		return err
	}
	if err := c.pick(d, s); err != nil {
		return err
	}
	return c.keep(d, s)
}

// feed gives a step its hidden states: rows that the step before hands on, or carried rows.
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

// handedOn returns what a step hands on: all its rows in an aligned chain, otherwise those
// that tokens were drafted from.
func (c *chain) handedOn(s *step) (states hip.Ptr, rows int) {
	switch {
	case c.plan.Rule == plan.Aligned:
		return s.out, s.Rows()
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
	to := kernels.Picked{IDs: w.down.At(s.FirstDraft), Probabilities: w.down.At(c.room + s.FirstDraft)}
	return h.pickTokens(d, w, to, states, n, s.Module, 1)
}

// keep turns an aligned step's rows into the input of the next step, and keeps the row of
// each sequence that the next call starts from. The last step hands nothing on.
func (c *chain) keep(d hip.Device, s *step) error {
	h, w := c.head, c.w
	if c.plan.Rule != plan.Aligned || s.Layer == c.plan.Steps-1 {
		return nil
	}
	width := h.config.HiddenSize
	if h.options.PostNorm {
		if err := norm.RMSNorm(d, s.out, s.out, h.modules[s.Module].finalNorm, s.Rows(), width, h.config.Attention.Eps); err != nil {
			return err
		}
	}
	if len(s.Keeps) == 0 {
		return nil
	}
	return kernels.TakeRows(d, &kernels.TakeRowsArgs{
		Out: w.down.At(c.keepsAt() + s.FirstKeep*width), From: s.out, Sources: w.up.At(s.keepsAt),
		Rows: int32(len(s.Keeps)), FromRows: int32(s.Rows()), Width: int32(width),
	})
}
