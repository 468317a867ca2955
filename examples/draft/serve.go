package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/mtp"
)

// nearTie is the top-1 minus top-2 logit below which another order of summation
// may well draft the other token.
const nearTie = 1e-3

// traceResult is what drafting along one trace gave.
type traceResult struct {
	Name       string `json:"name"`
	Steps      int    `json:"steps"`
	Drafted    int    `json:"drafted"`  // drafts whose true token lies inside the trace
	Accepted   int    `json:"accepted"` // of them, those that the target confirms
	Mismatches int    `json:"mismatches"`

	tokens     int   // emitted, the target's own among them
	draftedAt  []int // by position in the chain
	acceptedAt []int
	recorded   bool // there was something to compare drafts with
	compared   int  // drafts that the exact head was asked for too
	equal      int
	duration   time.Duration // of drafting, without the exact head beside it
	first      []step        // as many as are shown
	all        []int32       // drafts of every step, one after another
}

// step is one round of drafting and verification.
type step struct {
	drafts, target []int32 // target: what the text really is, as long as drafts
	accepted       int
}

// drafter is a head with a cache.
type drafter struct {
	head    *mtp.Head
	chain   mtp.Chain // the rule, if the head has several modules
	cache   *mtp.Cache
	minProb float64
}

// serve drafts along a trace as an engine would: commit what the target
// confirmed, draft k tokens, let the target verify, go on after its own next
// token. The target is played by the trace. exact, if given, drafts beside it at
// every step, to compare. onToken is told how far it is.
func serve(ctx context.Context, d, exact *drafter, t *m3tiny.Trace, k, show int, onToken func(done int)) (*traceResult, error) {
	head := d.head
	if t.Width != head.Config().HiddenSize {
		return nil, widthError(t, head)
	}
	r := &traceResult{Name: t.Name, draftedAt: make([]int, k), acceptedAt: make([]int, k)}
	recorded := d.recorded(t)
	r.recorded = recorded != nil
	seq := d.cache.NewSequence()
	defer seq.Close()
	var beside *mtp.Sequence
	if exact != nil {
		beside = exact.cache.NewSequence()
		defer beside.Close()
	}
	last := len(t.Tokens) - 1
	for n := t.PromptLen; n < last; {
		start := time.Now()
		drafts, err := draftAt(ctx, d, seq, t, n, k)
		r.duration += time.Since(start)
		if err == nil && exact != nil {
			var want []int32
			want, err = draftAt(ctx, exact, beside, t, n, k)
			r.compare(drafts, want)
		}
		if err != nil {
			return nil, fmt.Errorf("%s, token %d: %w", t.Name, n, err)
		}
		r.all = append(r.all, drafts...)
		if recorded != nil {
			r.Mismatches += mismatches(drafts, recorded, n)
		}
		inside := drafts[:min(len(drafts), last-n)]
		target := append([]int32(nil), t.Tokens[n+1:n+1+len(inside)]...)
		accepted, _, err := mtp.Verify(mtp.Draft{Tokens: inside}, append(target, endOfTrace))
		if err != nil {
			return nil, err
		}
		r.count(len(inside), accepted)
		if len(r.first) < show {
			r.first = append(r.first, step{inside, target, accepted})
		}
		r.tokens += min(accepted+1, last-n)
		n += accepted + 1
		onToken(min(n, last) - t.PromptLen)
	}
	return r, nil
}

// widthError refuses a trace of another model.
func widthError(t *m3tiny.Trace, head *mtp.Head) error {
	return fmt.Errorf("%s: hidden states of width %d, want %d, the head's hidden_size", t.Name, t.Width, head.Config().HiddenSize)
}

// endOfTrace stands for the target's token after the trace, which nobody knows.
const endOfTrace = -1

// draftAt commits the rows that the sequence lacks before token n, which is
// known while its hidden state is not, and drafts after it.
func draftAt(ctx context.Context, d *drafter, seq *mtp.Sequence, t *m3tiny.Trace, n, k int) ([]int32, error) {
	from := seq.Len()
	drafts, err := d.head.Draft(ctx, &mtp.Batch{
		Sequences: []mtp.Rows{{Sequence: seq, Position: from, Tokens: t.Tokens[from+1 : n+1], Drafts: k, MinProbability: d.minProb}},
		Hidden:    mtp.Hidden{BFloat16: t.Hidden[from*t.Width : n*t.Width]},
	})
	if err != nil {
		return nil, err
	}
	return drafts[0].Tokens, drafts[0].Err
}

func (r *traceResult) count(drafted, accepted int) {
	r.Steps++
	r.Drafted += drafted
	r.Accepted += accepted
	for j := range drafted {
		r.draftedAt[j]++
		if j < accepted {
			r.acceptedAt[j]++
		}
	}
}

// compare counts the drafts that are those of the exact head at the same place.
func (r *traceResult) compare(drafts, exact []int32) {
	r.compared += max(len(drafts), len(exact))
	for j := range min(len(drafts), len(exact)) {
		if drafts[j] == exact[j] {
			r.equal++
		}
	}
}

// recorded returns what drafts along a trace are compared with: the trace's own drafts by a
// head of as many modules and the same rule, or nil if it has none.
func (d *drafter) recorded(t *m3tiny.Trace) *m3tiny.Drafts {
	if n := d.head.Config().NumMTPModules; n > 1 {
		if own := t.Drafts[m3tiny.Aligned(n, string(cmp.Or(d.chain, mtp.ChainAligned)))]; own != nil {
			return own
		}
	}
	return t.Drafts[variant(d.head)]
}

// variant says which recorded drafts a head is compared with.
func variant(head *mtp.Head) m3tiny.Variant {
	if _, quantized := head.Report().Formats["MXFP8"]; quantized {
		return m3tiny.MXFP8
	}
	return m3tiny.BF16
}

// mismatches counts drafts at token n that differ from the recorded ones although these
// were not near ties. After the first difference chains are fed differently and cannot be
// compared. An id below 0 was not recorded.
func mismatches(drafts []int32, recorded *m3tiny.Drafts, n int) int {
	at := n * recorded.K
	for j := range min(len(drafts), recorded.K) {
		if recorded.IDs[at+j] < 0 {
			return 0
		}
		if drafts[j] != recorded.IDs[at+j] {
			if recorded.Margins[at+j] < nearTie {
				return 0
			}
			return 1
		}
	}
	return 0
}
