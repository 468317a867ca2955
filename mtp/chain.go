package mtp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/plan"
	"github.com/drafthead/drafthead/mtp/internal/sampling"
	"github.com/drafthead/drafthead/mtp/internal/staging"
)

// chain is one Draft under way: its plan is made step by step, steps are queued part by
// part, and the drafts are collected. Its results lie in one buffer, with room for all
// drafts that there can be:
//
//	ids            [room]                 int32
//	probabilities  [room]                 float32
//	counts         [room]                 int32    if a draft is drawn
//	lists: ids     [room, most]           int32
//	       weights [room, most]           float32
//	differs        [1]                    int32    in a parallel head
//	               to a multiple of 16 bytes
//	kept rows      [keeps, hidden_size]   float32
//
// A part is steps that are queued together, with the words that they need. The first step
// is a part, and while the device works on it all others are queued as the second. If
// probabilities decide which sequences go on, or drafts which tokens are allowed, each step
// is a part.
type chain struct {
	*call
	plan   plan.Call
	drafts []Draft
	carry  [][][]float32 // by sequence: what it carries to the next call, see Sequence; nil: nothing

	room     int   // for drafts
	most     int   // tokens that a draft is drawn from; 0: no draft is drawn
	stepwise bool  // each step is a part
	queued   int   // steps, of all parts
	before   *step // the last that was queued
	refused  error // of a mask, on a rank of a parallel head: the chain ends after the step
	shared   int   // rows that step 0 of a target-fed chain handed on
}

func newChain(c *call) *chain {
	h := c.head
	k := &chain{call: c, plan: plan.Call{Rule: h.rule(), Modules: len(h.modules), Steps: h.alignedSteps(), Sequences: c.planned()}}
	k.drafts = make([]Draft, len(k.plan.Sequences))
	for i := range k.plan.Sequences {
		r, s := &c.batch.Sequences[i], &k.plan.Sequences[i]
		s.Again, s.Forgets = r.again(), r.Sequence == nil
		if s.Drafts = r.Drafts; !h.chain.shifts() && s.Drafts > 0 {
			s.Drafts = min(s.Drafts, 1+c.pages.Spare(i)) // the first draft needs no row of the chain's
		}
		k.stepwise = k.stepwise || r.MinProbability > 0 || r.Allowed != nil
		if r.draws() {
			k.most = min(sampling.MaxList, c.head.draftHead.count)
		}
	}
	if h.chain.shifts() {
		k.carry = make([][][]float32, len(k.drafts))
		for i := range k.carry {
			k.carry[i] = make([][]float32, k.plan.Steps-1)
		}
	}
	k.room = k.plan.MostDrafts()
	c.useEmbeds(k.plan.Sequences, k.room)
	return k
}

// rule returns the head's rule as package plan names it.
func (h *Head) rule() plan.Rule {
	switch h.chain {
	case ChainAligned:
		return plan.Aligned
	case ChainTarget:
		return plan.Target
	case ChainModOwn:
		return plan.ModOwn
	}
	return plan.First
}

// together runs the chain, on all ranks of a parallel head.
func (c *chain) together(ctx context.Context) error {
	if c.head.ranks == nil {
		return c.run(ctx)
	}
	err := c.head.together(ctx, c.batch.appendPlan(nil, 'd', 0), func() error { return c.run(ctx) })
	if err != nil && c.refused != nil && !errors.Is(err, c.refused) {
		return fmt.Errorf("%w: %w", err, c.refused)
	}
	return err
}

// run plans, queues and collects the chain.
func (c *chain) run(ctx context.Context) error {
	if err := c.reserveResults(); err != nil {
		return err
	}
	part := c.next(1)
	if c.stepwise {
		for ; len(part) > 0; part = c.next(1) {
			if err := c.queuePart(ctx, part, true); err != nil {
				return err
			}
			if err := c.collect(part); err != nil {
				return err
			}
			if c.refused != nil {
				return &agreedError{c.refused}
			}
		}
		return nil
	}
	if err := c.queuePart(ctx, part, false); err != nil {
		return err
	}
	rest := c.next(math.MaxInt)
	if err := c.queuePart(ctx, rest, true); err != nil {
		return err
	}
	return c.collect(append(part, rest...))
}

// reserveResults makes room for what steps hand on and for the results.
func (c *chain) reserveResults() error {
	w, width := c.w, c.head.config.HiddenSize
	if err := w.start(); err != nil {
		return err
	}
	rows, sequences := c.plan.MostRows()*width, len(c.drafts)*width
	err := w.grow(need{&w.hiddenIn.wide, rows}, need{&w.hidden, rows}, need{&w.otherHidden, rows}, need{&w.picked, sequences}, need{&w.finalNormed, sequences})
	if err != nil {
		return err
	}
	return w.down.Expect(c.keepsAt() + c.plan.MostKeeps()*width)
}

// listsAt is where the lists of a draft begin in the results.
func (c *chain) listsAt() int { return 2 * c.room }

// listsEnd is where the lists end.
func (c *chain) listsEnd() int {
	if c.most == 0 {
		return c.listsAt()
	}
	return c.listsAt() + c.room*(1+2*c.most)
}

// keepsAt is where the kept rows begin in the results.
func (c *chain) keepsAt() int { return (c.differsAt() + c.head.ranksResults() + 3) / 4 * 4 }

// differsAt is where the ranks of a parallel head say which of them was given other work.
func (c *chain) differsAt() int { return c.listsEnd() }

// next plans up to n more steps.
func (c *chain) next(n int) (part []*step) {
	for len(part) < n {
		p := c.plan.Next()
		if p == nil {
			break
		}
		if part == nil {
			part = make([]*step, 0, min(n, 8))
		}
		part = append(part, &step{Step: p})
	}
	return part
}

// queuePart queues a part, which may have no steps. If bring is set, it also queues the
// copy of the results so far.
func (c *chain) queuePart(ctx context.Context, part []*step, bring bool) error {
	if err := c.prepare(part); err != nil {
		return err
	}
	c.w.queued = true
	before := c.before
	if len(part) > 0 {
		c.before = part[len(part)-1]
	}
	c.queued += len(part)
	err := c.w.run(c.batch.Observe != nil, func(d hip.Device) error {
		before := before
		for _, s := range part {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("mtp: %w", err)
			}
			if err := c.queueStep(d, s, before); err != nil {
				return err
			}
			before = s
		}
		if !bring {
			return nil
		}
		return c.w.down.Bring(d, c.results())
	})
	c.w.up.Next()
	return err
}

// results returns how many values the queued steps give.
func (c *chain) results() int {
	if last := c.before; last.FirstKeep+len(last.Keeps) > 0 {
		return c.keepsAt() + (last.FirstKeep+len(last.Keeps))*c.head.config.HiddenSize
	}
	return c.differsAt() + c.head.ranksResults()
}

// prepare uploads what the steps of a part need, and makes room for what they compute.
func (c *chain) prepare(part []*step) error {
	w, first := c.w, c.queued == 0
	if first {
		c.stageInput(part[0], !c.head.chain.shifts() || c.plan.Steps == 1)
	}
	for i, s := range part {
		s.drafted, s.draftedRoom = w.down.At(0), c.room
		s.sourcesAt, s.sharedAt, s.picksAt, s.keepsAt = w.up.Add(s.Sources), w.up.Add(s.Shared), w.up.Add(s.Picks), w.up.Add(s.Keeps)
		if err := c.stage(s); err != nil {
			return err
		}
		if err := c.stageSampling(c.queued+i, s); err != nil {
			return err
		}
		s.plansAt = w.stagePlans(c.head)
		w.up.Align()
		s.carriedAt = w.up.Len()
		for _, row := range s.Carried {
			w.up.AddFloats(c.batch.Sequences[row.Sequence].Sequence.carry[row.Back])
		}
	}
	for _, s := range part {
		if err := c.reserve(s); err != nil {
			return err
		}
		if err := w.reserveTop(c.head, len(s.Picks), 1); err != nil {
			return err
		}
		if c.most > 0 {
			if err := w.sampler.GrowList(w.device, len(s.Picks), c.head.draftHead.count); err != nil {
				return err
			}
			if err := w.reserveRanks(c.head, len(s.Picks), 1, &c.head.draftHead.columns); err != nil {
				return err
			}
		}
	}
	if first {
		if err := c.loadInput(part[0]); err != nil {
			return err
		}
	}
	if err := w.up.Upload(); err != nil {
		return err
	}
	for _, s := range part {
		c.place(s)
	}
	return nil
}

// collect reads the results of steps: all steps that were queued since the last collect.
func (c *chain) collect(steps []*step) error {
	values, err := c.w.wait(c.results())
	if err != nil {
		return err
	}
	width := c.head.config.HiddenSize
	if c.head.ranks != nil && c.plan.MostDrafts() > 0 {
		if err := samePlans(values[c.differsAt()]); err != nil {
			return err
		}
	}
	for _, s := range steps {
		for i, row := range s.Picks {
			slot := s.FirstDraft + i
			sequence := s.SpanOf(row).Sequence
			if c.add(sequence, values[slot], math.Float32frombits(uint32(values[c.room+slot]))) && c.batch.Sequences[sequence].draws() {
				c.drafts[sequence].drawn = append(c.drafts[sequence].drawn, c.list(values, slot))
			}
		}
		for i, as := range s.Kept {
			first := c.keepsAt() + (s.FirstKeep+i)*width
			c.carry[as.Sequence][as.Back] = slices.Clone(staging.Floats(values[first : first+width]))
		}
	}
	return nil
}

// add adds a draft to its sequence, or ends the chain of the sequence before it. It reports
// whether it added it.
func (c *chain) add(sequence int, id int32, probability float32) bool {
	d := &c.drafts[sequence]
	switch {
	case c.plan.Ended(sequence):
	case probability != probability:
		d.Err = errNaN
		c.plan.End(sequence)
	case float64(probability) < c.batch.Sequences[sequence].MinProbability:
		c.plan.End(sequence)
	default:
		if d.Tokens == nil {
			most := c.batch.Sequences[sequence].Drafts
			d.Tokens, d.Probs = make([]int32, 0, most), make([]float32, 0, most)
		}
		d.Tokens, d.Probs = append(d.Tokens, id), append(d.Probs, probability)
		return true
	}
	return false
}
