package speculate

import (
	"context"
	"errors"
	"time"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// drafts is how many tokens may be drafted after the newest one: the target has to run them,
// and to write one more.
func (e *Engine) drafts(t *turn) int {
	last := e.Target.Config.Attention.Rope.Positions - 1
	return max(0, min(t.Drafts, t.Most-len(t.Tokens)-1, last-t.target.Len()))
}

// draft gives the head rows whose hidden states are new, and drafts after those that reach
// the newest token but one. Where the controller drafts nothing, rows wait: a text that ends
// before anything is drafted costs the head nothing. If a text drafts then, all but its last
// row go before, in a call of their own, so that drafts cost what they always do.
func (e *Engine) draft(ctx context.Context, turns []*turn) error {
	var able, late, now []*turn
	var requests []*mtp.Acceptance
	others := false // rows that no chain has, such as a prompt's
	for _, t := range turns {
		switch {
		case t.pending == 0:
		case t.target.Len() == len(t.Tokens)-1 && e.drafts(t) > 0:
			t.length = e.drafts(t)
			able, requests = append(able, t), append(requests, &t.acceptance)
		case e.Controller == nil || !e.idle || t.pending > mostWaiting:
			now, others = append(now, t), true
		}
	}
	c := e.Controller
	if c == nil {
		_, err := e.give(ctx, append(now, able...), false)
		return err
	}
	if len(able) > 0 {
		e.idle = true
	}
	for i, n := range c.Lengths(requests...) {
		t, most := able[i], mostWaiting
		if t.length = min(t.length, n); t.length > 0 {
			now, most, e.idle = append(now, t), t.Drafts+1, false
		}
		if t.pending > most {
			late = append(late, t)
		}
	}
	if _, err := e.give(ctx, late, true); err != nil {
		return err
	}
	took, err := e.give(ctx, now, false)
	if err == nil && !others && len(now) > 0 {
		lengths := make([]int, len(now))
		for i, t := range now {
			lengths[i] = t.length
		}
		c.ReportDraft(lengths, took)
	}
	return err
}

// mostWaiting bounds the rows of a text that wait for the head.
const mostWaiting = 512

// await keeps the hidden states of rows that the target has run.
func (e *Engine) await(t *Text, hidden hip.Ptr, rows int) error {
	d, size := e.Head.Device(), 4*int64(e.Target.Config.HiddenSize)
	if t.pending == 0 {
		t.given = 0
	}
	if need := t.given + t.pending + rows; need > t.room {
		var larger hip.Buffer
		if err := larger.Grow(d, 2*need, int(size)); err != nil {
			return err
		}
		if t.pending > 0 {
			if err := d.Copy(larger.Ptr(), t.hidden.Ptr().Add(int64(t.given)*size), int64(t.pending)*size); err != nil {
				return errors.Join(err, larger.Free(d))
			}
		}
		old := t.hidden
		t.hidden, t.room, t.given = larger, 2*need, 0
		if err := old.Free(d); err != nil {
			return err
		}
	}
	err := d.Copy(t.hidden.Ptr().Add(int64(t.given+t.pending)*size), hidden, int64(rows)*size)
	t.pending += rows
	return err
}

// give gives the head the rows of texts, and drafts after them. If they are late, the last row
// of a text that drafts stays, and nothing is drafted. It returns how long that took.
func (e *Engine) give(ctx context.Context, turns []*turn, late bool) (took time.Duration, err error) {
	if len(turns) == 0 {
		return 0, nil
	}
	of, rows := make([]int, len(turns)), 0
	for i, t := range turns {
		if of[i] = t.pending; late && t.length > 0 {
			of[i]--
		}
		rows += of[i]
	}
	d, size := e.Head.Device(), 4*int64(e.Target.Config.HiddenSize)
	if err := e.gathered.Grow(d, rows, int(size)); err != nil {
		return 0, err
	}
	b, at := &mtp.Batch{Hidden: mtp.Hidden{Device: e.gathered.Ptr()}}, e.gathered.Ptr()
	for i, t := range turns {
		if err := d.Copy(at, t.hidden.Ptr().Add(int64(t.given)*size), int64(of[i])*size); err != nil {
			return 0, err
		}
		at = at.Add(int64(of[i]) * size)
		from := t.target.Len() - t.pending // of the rows, whose tokens are one position further
		r := mtp.Rows{Sequence: t.head, Position: from, Tokens: t.Tokens[from+1 : from+1+of[i]]}
		if !late {
			r.Drafts = t.length
		}
		if !t.Repeatable {
			r.Sampling = &t.Sampling
		}
		b.Sequences = append(b.Sequences, r)
	}
	start := time.Now()
	drafts, err := e.Head.Draft(ctx, b)
	if err != nil {
		return 0, err
	}
	took = time.Since(start)
	for i, t := range turns {
		t.draft, t.Err = drafts[i], drafts[i].Err
		t.given, t.pending = t.given+of[i], t.pending-of[i]
	}
	return took, nil
}
