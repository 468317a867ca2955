package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/mtp"
)

// convention is a way to draft with a head, and what it gave along the traces.
type convention struct {
	Chain    mtp.Chain `json:"chain"`
	PostNorm bool      `json:"post_norm"`
	Hidden   string    `json:"hidden"`            // of step 0: before or after the target's final norm, "pre" or "post"
	Mistake  string    `json:"mistake,omitempty"` // a name of mistakes

	MeanTokensPerStep     float64   `json:"mean_tokens_per_step"`
	PerPositionAcceptance []float64 `json:"per_position_acceptance"`
	Steps                 int       `json:"steps"`

	// EveryPositionMatch is, for each place in the chain, the share of right drafts after
	// every token, whatever came before in the chain.
	EveryPositionMatch []float64 `json:"every_position_match"`

	// Difference is in tokens a step, were there a step after every token, less those of
	// the first convention. nil: this is the first.
	Difference *difference `json:"difference_to_first,omitempty"`

	drafts [][][]int32 // by trace, by token from the prompt's end on
	tokens [][]float64 // that a step would emit: by trace and token
}

// conventions is what -conventions finds.
type conventions struct {
	Checkpoint  string         `json:"checkpoint"`
	Device      string         `json:"device"`
	K           int            `json:"k"`
	Conventions []*convention  `json:"conventions"` // best first
	Mistakes    []*convention  `json:"mistakes"`    // best first
	Comparisons []pair         `json:"comparisons"` // of any two conventions
	Recorded    []*recording   `json:"recorded"`
	Explained   []*explanation `json:"explained,omitempty"` // what -seen may come from, nearest first
	Findings    []string       `json:"findings"`

	traces, places int
	pre            bool // the traces have hidden_pre
}

// pair compares two of conventions.Conventions, by their indices.
type pair struct {
	First      int        `json:"first"`
	Second     int        `json:"second"`
	Difference difference `json:"difference"` // of the first less the second
}

const preHidden, postHidden = "pre", "post"

// rules are the chains that can differ with a head of so many modules.
func rules(modules int) []mtp.Chain {
	if modules == 1 { // where ChainModOwn is ChainFirst
		return []mtp.Chain{mtp.ChainFirst, mtp.ChainAligned, mtp.ChainTarget}
	}
	return []mtp.Chain{mtp.ChainFirst, mtp.ChainModOwn, mtp.ChainAligned, mtp.ChainTarget}
}

// tryConventions drafts along the traces by every convention that they allow, and with every
// mistake.
func (s *settings) tryConventions(ctx context.Context, traces []*m3tiny.Trace, opts mtp.Options, load func(mtp.Options) (*mtp.Head, error), stderr io.Writer) (*conventions, error) {
	hidden := []string{postHidden}
	if !slices.ContainsFunc(traces, func(t *m3tiny.Trace) bool { return t.HiddenPre == nil }) {
		hidden = append(hidden, preHidden)
	}
	out := &conventions{K: s.k, traces: len(traces), pre: len(hidden) > 1}
	for _, t := range traces {
		out.places += len(t.Tokens) - t.PromptLen
	}
	head, err := load(opts)
	if err != nil {
		return nil, err
	}
	modules := head.Config().NumMTPModules
	if err := head.Close(); err != nil {
		return nil, err
	}
	for _, chain := range rules(modules) {
		for _, postNorm := range []bool{false, true} {
			if chain == mtp.ChainTarget && postNorm {
				continue // nothing goes from step to step
			}
			for _, h := range hidden {
				out.Conventions = append(out.Conventions, &convention{Chain: chain, PostNorm: postNorm, Hidden: h})
			}
		}
		for _, m := range mistakes {
			out.Mistakes = append(out.Mistakes, &convention{Chain: chain, Hidden: postHidden, Mistake: m.name})
		}
	}
	if err := out.run(ctx, traces, opts, load, stderr); err != nil {
		return nil, err
	}
	out.judge(traces)
	out.Recorded = out.recordings(traces)
	out.Explained = out.explain(s.seen)
	out.Findings = out.findings()
	return out, nil
}

// all returns the conventions and the mistakes.
func (c *conventions) all() []*convention { return slices.Concat(c.Conventions, c.Mistakes) }

// run drafts by all conventions, with one head for those that load the same way.
func (c *conventions) run(ctx context.Context, traces []*m3tiny.Trace, opts mtp.Options, load func(mtp.Options) (*mtp.Head, error), stderr io.Writer) error {
	type loaded struct {
		chain    mtp.Chain
		postNorm bool
	}
	var order []loaded
	same := map[loaded][]*convention{}
	for _, one := range c.all() {
		l := loaded{one.Chain, one.PostNorm}
		if same[l] == nil {
			order = append(order, l)
		}
		same[l] = append(same[l], one)
	}
	done, total := 0, len(c.all())*c.places
	for _, l := range order {
		opts.Chain, opts.PostNorm = l.chain, l.postNorm
		head, err := load(opts)
		if err != nil {
			return err
		}
		progress, shown := cli.Progress(stderr, string(l.chain), "drafts")
		err = c.runWith(ctx, head, same[l], traces, func(n int) {
			done += n
			progress(int64(done), int64(total))
		})
		shown()
		if err := errors.Join(err, head.Close()); err != nil {
			return err
		}
	}
	return nil
}

// runWith drafts by conventions that share a head.
func (c *conventions) runWith(ctx context.Context, head *mtp.Head, conventions []*convention, traces []*m3tiny.Trace, onPlaces func(int)) error {
	cache, err := cacheFor(head, traces, c.K)
	if err != nil {
		return err
	}
	for _, one := range conventions {
		for _, t := range traces {
			drafts, err := draftEverywhere(ctx, head, cache, t, one.feed(t), c.K, onPlaces)
			if err != nil {
				return errors.Join(err, cache.Close())
			}
			one.drafts = append(one.drafts, drafts)
		}
	}
	return cache.Close()
}

// feed returns what the convention feeds along a trace.
func (c *convention) feed(t *m3tiny.Trace) feed {
	hidden := t.Hidden
	if c.Hidden == preHidden {
		hidden = t.HiddenPre
	}
	f := rightFeed(t, hidden)
	for _, m := range mistakes {
		if m.name == c.Mistake {
			m.change(&f, t)
		}
	}
	return f
}

// judge computes every convention's figures, sorts them and compares them.
func (c *conventions) judge(traces []*m3tiny.Trace) {
	for _, one := range c.all() {
		one.judge(traces, c.K)
	}
	better := func(a, b *convention) int { return cmp.Compare(b.MeanTokensPerStep, a.MeanTokensPerStep) }
	slices.SortStableFunc(c.Conventions, better)
	slices.SortStableFunc(c.Mistakes, better)
	first := c.Conventions[0]
	for _, one := range c.all() {
		if one != first {
			d := paired(one.tokens, first.tokens)
			one.Difference = &d
		}
	}
	for i, a := range c.Conventions {
		for j := i + 1; j < len(c.Conventions); j++ {
			c.Comparisons = append(c.Comparisons, pair{i, j, paired(a.tokens, c.Conventions[j].tokens)})
		}
	}
}

// judge computes a convention's figures: those of a serve loop, and those after every token.
func (c *convention) judge(traces []*m3tiny.Trace, k int) {
	served := &traceResult{draftedAt: make([]int, k), acceptedAt: make([]int, k)}
	matches, possible := make([]int, k), make([]int, k)
	c.tokens = nil
	for i, t := range traces {
		last := len(t.Tokens) - 1
		accepted := make([]int, last-t.PromptLen) // by token
		inside := make([]int, len(accepted))
		tokens := make([]float64, len(accepted))
		for at := range accepted {
			n := t.PromptLen + at
			inside[at] = min(k, last-n)
			for j := range inside[at] {
				possible[j]++
				right := c.drafts[i][at][j] == t.Tokens[n+1+j]
				if right {
					matches[j]++
				}
				if right && accepted[at] == j {
					accepted[at]++
				}
			}
			tokens[at] = float64(min(accepted[at]+1, last-n))
		}
		for at := 0; at < len(accepted); at += accepted[at] + 1 {
			served.count(inside[at], accepted[at])
			served.tokens += int(tokens[at])
		}
		c.tokens = append(c.tokens, tokens)
	}
	c.Steps = served.Steps
	c.MeanTokensPerStep = ratio(served.tokens, served.Steps)
	for j := range k {
		c.PerPositionAcceptance = append(c.PerPositionAcceptance, ratio(served.acceptedAt[j], served.draftedAt[j]))
		c.EveryPositionMatch = append(c.EveryPositionMatch, ratio(matches[j], possible[j]))
	}
}

// String names a convention in a sentence.
func (c *convention) String() string {
	s := fmt.Sprintf("%s, norm %s, hidden %s", c.Chain, c.norm(), c.Hidden)
	if c.Mistake != "" {
		s = c.Mistake + ": " + s
	}
	return s
}

// norm says what goes from step to step: hidden states before the module's final norm, or
// after it.
func (c *convention) norm() string {
	switch {
	case c.Chain == mtp.ChainTarget:
		return "-"
	case c.PostNorm:
		return postHidden
	}
	return preHidden
}
