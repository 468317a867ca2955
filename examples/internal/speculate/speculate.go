// Package speculate is the loop of speculative decoding over a live target: a ragged batch
// of texts, drafts by the head, one pass of the target over the newest token and the drafts
// of each text, verification on the device, and both caches cut after what was confirmed.
//
//	text            t₀ … t₇ t₈          t₈ is the newest token; the target has run t₀ … t₇
//	Head.Draft      rows of new hidden states with the tokens after them; drafts d₉ d₁₀
//	Target.Run      t₈ d₉ d₁₀           logits after each: for positions 9, 10 and 11
//	VerifySampled   d₉ is accepted, d₁₀ is not: x₁₀ in its place
//	text            t₀ … t₈ d₉ x₁₀      the target's cache is cut after d₉
//
// A text that the target has not run up to its newest token, such as a prompt, runs in
// chunks beside the others.
package speculate

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/target"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// Engine decodes with a target and its head. Only one goroutine may use it at a time.
type Engine struct {
	Target *target.Target
	Head   *mtp.Head
	Cache  *mtp.Cache // the head's
	Chunk  int        // rows of a text that run in one pass, at most; 0: 128

	// Controller chooses how many tokens to draft, up to each text's Drafts. nil: Drafts.
	Controller *mtp.Controller

	gathered hip.Buffer // hidden states of a Draft, text by text
	idle     bool       // the controller has just drafted nothing
}

// Text is a prompt and what the engine wrote after it. Release it in the end.
type Text struct {
	Tokens   []int32      // the prompt, at least one token, to which Step appends
	Drafts   int          // to draft in a step, at most; 0: the target writes alone
	Most     int          // the number of tokens that the text ends with
	Sampling mtp.Sampling // of the target, and of the drafts

	// Repeatable makes the text depend on Sampling alone, however much is drafted: the
	// target draws a token at each position, and greedy drafts are accepted where they are
	// that token. Otherwise drafts are drawn too, and more of them are accepted.
	Repeatable bool

	Passes                int    // of the target, that wrote a token of the text
	DraftedAt, AcceptedAt []int  // by position in the chain
	Accepted              []bool // of each token that was written: whether it was drafted

	Err error // logits or a draft's probabilities held NaN: the text has ended

	target     *attention.Sequence
	head       *mtp.Sequence
	hidden     hip.Buffer // [room, HiddenSize] float32: the target's, given + pending rows of it
	room       int
	given      int // rows that the head has seen
	pending    int // rows that it has not, up to the last that the target has run
	acceptance mtp.Acceptance
}

// Done reports whether the text is complete, or has ended with Err.
func (t *Text) Done() bool { return t.Err != nil || len(t.Tokens) >= t.Most }

// Release gives back the pages and the memory of a text. It may go on afterwards, as a
// prompt: that is how an engine preempts one.
func (e *Engine) Release(t *Text) error {
	errs := []error{t.hidden.Free(e.Head.Device())}
	if t.target != nil {
		errs = append(errs, t.target.Close(), t.head.Close())
	}
	t.target, t.head, t.room, t.given, t.pending = nil, nil, 0, 0, 0
	return errors.Join(errs...)
}

// Close frees the engine's memory.
func (e *Engine) Close() error { return e.gathered.Free(e.Head.Device()) }

// turn is a text's part of a step.
type turn struct {
	*Text
	run    []int32 // tokens that the target runs, drafts among them
	writes bool    // the last known token is among them
	length int     // of the chain that is wanted
	draft  mtp.Draft
}

// Step does one pass of the target over the texts that are not done, and appends what it
// confirms. If drafting, the pass or verification fails, no text has grown, and Step may be
// called again: with fewer texts, if the error is [attention.ErrCacheFull].
func (e *Engine) Step(ctx context.Context, texts []*Text) error {
	var turns []*turn
	for _, t := range texts {
		if t.Done() {
			continue
		}
		if t.target == nil {
			t.target, t.head = e.Target.Cache.NewSequence(), e.Cache.NewSequence()
		}
		from := t.target.Len()
		to := min(len(t.Tokens), from+e.chunk())
		turns = append(turns, &turn{Text: t, run: t.Tokens[from:to:to], writes: to == len(t.Tokens)})
	}
	if len(turns) == 0 {
		return nil
	}
	if err := e.draft(ctx, turns); err != nil {
		return err
	}
	start, prompts, rows := time.Now(), false, 0
	batch := make([]target.Rows, len(turns))
	for i, t := range turns {
		t.run = append(t.run, t.draft.Tokens...)
		batch[i] = target.Rows{Sequence: t.target, Tokens: t.run}
		if t.writes {
			batch[i].Logits = len(t.draft.Tokens) + 1
		}
		rows, prompts = rows+len(t.run), prompts || len(t.run) > batch[i].Logits
	}
	hidden, logits, err := e.Target.Run(ctx, batch)
	if err != nil {
		return err
	}
	results, err := e.verify(ctx, turns, logits)
	if err != nil {
		return errors.Join(err, e.undo(turns))
	}
	if e.Controller != nil && !prompts { // verification too takes its time for each row
		e.Controller.ReportTarget(rows, time.Since(start))
	}
	return e.keep(turns, results, hidden)
}

func (e *Engine) chunk() int {
	if e.Chunk > 0 {
		return e.Chunk
	}
	return 128
}

// verify decides about the drafts of the texts that write. A text that does not gets no
// token.
func (e *Engine) verify(ctx context.Context, turns []*turn, logits hip.Ptr) ([]mtp.Verified, error) {
	var chains []mtp.Verification
	for _, t := range turns {
		// A repeatable text draws the target's token at every row: each is a chain without drafts.
		parts, draft := 1, t.draft
		if t.Repeatable {
			parts, draft = len(t.draft.Tokens)+1, mtp.Draft{}
		}
		for i := 0; t.writes && i < parts; i++ {
			chains = append(chains, mtp.Verification{Draft: draft, Position: len(t.Tokens) + i, Sampling: t.Sampling, Device: logits})
			logits = logits.Add(4 * int64(len(draft.Tokens)+1) * int64(e.Target.Config.VocabSize))
		}
	}
	if len(chains) == 0 {
		return nil, nil
	}
	drawn, err := e.Head.VerifySampled(ctx, chains)
	if err != nil {
		return nil, err
	}
	var results []mtp.Verified
	for _, t := range turns {
		switch {
		case !t.writes:
		case t.Repeatable:
			n := len(t.draft.Tokens) + 1
			results, drawn = append(results, compare(t.draft.Tokens, drawn[:n])), drawn[n:]
		default:
			results, drawn = append(results, drawn[0]), drawn[1:]
		}
	}
	return results, nil
}

// compare accepts drafts up to the first that is not what was drawn.
func compare(drafts []int32, drawn []mtp.Verified) mtp.Verified {
	n := 0
	for n < len(drafts) && drawn[n].Err == nil && drafts[n] == drawn[n].Next {
		n++
	}
	return mtp.Verified{Accepted: n, Next: drawn[n].Next, Err: drawn[n].Err}
}

// undo takes the rows of a pass back.
func (e *Engine) undo(turns []*turn) error {
	var errs []error
	for _, t := range turns {
		errs = append(errs, t.target.Truncate(t.target.Len()-len(t.run)))
	}
	return errors.Join(errs...)
}

// keep appends what was confirmed, cuts the target's cache after it, and keeps the hidden
// states for the head. hidden are those of all rows of the pass.
func (e *Engine) keep(turns []*turn, results []mtp.Verified, hidden hip.Ptr) error {
	var errs []error
	size := 4 * int64(e.Target.Config.HiddenSize)
	for _, t := range turns {
		rows := len(t.run)
		if t.writes {
			r := results[0]
			results = results[1:]
			rows -= len(t.draft.Tokens) - r.Accepted
			if t.Err = cmp.Or(t.Err, r.Err); t.Err == nil {
				t.append(r)
			}
			errs = append(errs, t.target.Truncate(t.target.Len()-len(t.run)+rows))
			if e.Controller != nil && t.Drafts > 0 {
				e.Controller.ReportAccepted(&t.acceptance, len(t.draft.Tokens), r.Accepted)
			}
		}
		if t.Drafts > 0 {
			errs = append(errs, e.await(t.Text, hidden, rows))
		}
		hidden = hidden.Add(int64(len(t.run)) * size)
	}
	return errors.Join(errs...)
}

// append adds the accepted drafts and the target's own token, and counts.
func (t *turn) append(r mtp.Verified) {
	t.Passes++
	for j := range t.draft.Tokens {
		if j == len(t.DraftedAt) {
			t.DraftedAt, t.AcceptedAt = append(t.DraftedAt, 0), append(t.AcceptedAt, 0)
		}
		t.DraftedAt[j]++
		if j < r.Accepted {
			t.AcceptedAt[j]++
		}
	}
	t.Tokens = append(append(t.Tokens, t.draft.Tokens[:r.Accepted]...), r.Next)
	for range r.Accepted {
		t.Accepted = append(t.Accepted, true)
	}
	t.Accepted = append(t.Accepted, false)
}
