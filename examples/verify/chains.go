package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/mtp"
)

// chain is a rule for drafting, done by hand through Forward and Logits:
// which module a step runs, over which rows.
type chain struct {
	name     string
	postNorm bool
	module   func(step, modules int) int
	start    func(c *caseRun) *mtp.Sequence // after step 0
	every    bool                           // every module runs every row
	draft    mtp.Chain                      // the same by Head.Draft; "": it has none
}

func firstModule(int, int) int         { return 0 }
func stepModule(step, modules int) int { return step % modules }

// ownRows is the sequence in which module 0 alone ran the prompt, prefilled the
// one in which every module did.
func ownRows(c *caseRun) *mtp.Sequence   { return c.firstOnly }
func prefilled(c *caseRun) *mtp.Sequence { return c.everyModule }

var chains = []chain{
	{name: "chain", module: firstModule, start: ownRows, draft: mtp.ChainFirst},
	{name: "chain_postnorm", postNorm: true, module: firstModule, start: ownRows, draft: mtp.ChainFirst},
	{name: "chain_mod_own", module: stepModule, start: ownRows, draft: mtp.ChainModOwn},
	{name: "chain_mod_prefilled", module: stepModule, start: prefilled},
	{name: "chain_mod_every_row", module: stepModule, start: prefilled, every: true},
}

// verifyChain runs k steps from the prompt.
func (c *caseRun) verifyChain(ctx context.Context, rule *chain) error {
	seq, err := rule.start(c).Fork()
	if err != nil {
		return err
	}
	defer seq.Close()
	// Step 0 ran already; its last row runs again for its hidden state.
	n, width, modules := len(c.prompt.tokens), c.head.Config().HiddenSize, c.head.Config().NumMTPModules
	hidden, err := c.run(ctx, seq, n-1, c.prompt.tokens[n-1:], c.prompt.hidden[(n-1)*width:], 0)
	if err != nil {
		return err
	}
	next := func(step int, id int32, hidden []float32) (out []float32, err error) {
		if rule.postNorm {
			if hidden, err = c.head.FinalNorm(ctx, mtp.Hidden{Float32: hidden}, nil, rule.module(step-1, modules)); err != nil {
				return nil, err
			}
		}
		module := rule.module(step, modules)
		for m := range modules {
			if m != module && !rule.every {
				continue
			}
			got, err := c.run(ctx, seq, n-1+step, []int32{id}, hidden, m)
			if err != nil {
				return nil, err
			}
			if m == module {
				out = got
			}
		}
		return out, nil
	}
	return c.follow(ctx, rule.name, hidden, next, rule.module)
}

// follow compares a chain: hidden is step 0's last row, next gives a later step's.
func (c *caseRun) follow(ctx context.Context, name string, hidden []float32, next func(step int, id int32, hidden []float32) ([]float32, error), module func(step, modules int) int) error {
	want, err := c.golden.ints(name + ".ids")
	if err != nil {
		return err
	}
	var ids []int32
	var allHidden, allLogits []float32
	modules := c.head.Config().NumMTPModules
	for step := range want {
		if step > 0 {
			// The recorded draft, so that a tie does not spoil the steps after it.
			if hidden, err = next(step, want[step-1], hidden); err != nil {
				return err
			}
		}
		logits, err := c.head.Logits(ctx, mtp.Hidden{Float32: hidden}, nil, module(step, modules))
		if err != nil {
			return err
		}
		ids = append(ids, argmax(logits))
		allHidden, allLogits = append(allHidden, hidden...), append(allLogits, logits...)
	}
	return c.chainResults(name, "", ids, allHidden, allLogits)
}

// chainResults compares what a chain gave; hidden and logits may be nil.
func (c *caseRun) chainResults(name, how string, ids []int32, hidden, logits []float32) error {
	want, err := c.golden.ints(name + ".ids")
	if err != nil {
		return err
	}
	margins, err := c.golden.floats(name + ".margin")
	if err != nil {
		return err
	}
	if hidden != nil {
		if err := c.floats(name+".hidden", hidden); err != nil {
			return err
		}
	}
	if logits != nil {
		if err := c.floats(name+".logits", logits); err != nil {
			return err
		}
	}
	c.results = append(c.results, compareInts(name+".ids"+how, ids, want, 1, margins, c.bound))
	return nil
}

// shifted are the rules of which step s runs module s mod n over all rows in an empty
// cache, tokens shifted by s. A row takes its hidden state from the step before, or the
// target's at every step.
var shifted = []chain{
	{name: "chain_aligned", draft: mtp.ChainAligned},
	{name: "chain_target", draft: mtp.ChainTarget},
}

// verifyShifted is such a rule by hand. The name is that of the rule or of its second
// round, whose rows follow the prompt.
func (c *caseRun) verifyShifted(ctx context.Context, rule mtp.Chain, name string) error {
	known, rows, added := slices.Clone(c.prompt.sequence), c.prompt.hidden, 0
	if name != string(rule) {
		tokens, target, err := c.golden.round(name)
		if err != nil {
			return err
		}
		known, rows, added = append(known, tokens...), slices.Concat(rows, target), len(tokens)
	}
	n, width := len(known)-1, c.head.Config().HiddenSize
	run := func(step int) ([]float32, error) {
		seq := c.cache.NewSequence()
		defer seq.Close()
		out, err := c.run(ctx, seq, 0, known[1+step:][:n], rows, step)
		if err == nil && step == 0 && added > 0 {
			err = c.floats(name+".rows_hidden", out[(n-added)*width:])
		}
		if err != nil {
			return nil, err
		}
		if rule == mtp.ChainAligned {
			rows = out
		}
		return out[(n-1)*width:], nil
	}
	hidden, err := run(0)
	if err != nil {
		return err
	}
	return c.follow(ctx, name, hidden, func(step int, id int32, _ []float32) ([]float32, error) {
		known = append(known, id)
		return run(step)
	}, stepModule)
}

// rounds are the verification rounds after a chain: drafts accepted, a new token sampled,
// rows appended, and a chain from there.
var rounds = map[string][]string{
	"chain":        {"round2"},
	"chain_target": {"round2_target", "round2_target_rejected"},
}

// round returns the tokens of a round's rows and the target's hidden states.
func (g *golden) round(name string) (tokens []int32, target []float32, err error) {
	if tokens, err = g.ints(name + ".in_tokens"); err != nil {
		return nil, nil, err
	}
	target, err = g.floats(name + ".in_target_hidden")
	return tokens, target, err
}

// verifyRound2 is the verification round after chain, by hand.
func (c *caseRun) verifyRound2(ctx context.Context) error {
	const name = "round2"
	tokens, target, err := c.golden.round(name)
	if err != nil {
		return err
	}
	seq, err := c.firstOnly.Fork()
	if err != nil {
		return err
	}
	defer seq.Close()
	n, width := len(c.prompt.tokens), c.head.Config().HiddenSize
	rows, err := c.run(ctx, seq, n, tokens, target, 0)
	if err != nil {
		return err
	}
	if err := c.floats(name+".rows_hidden", rows); err != nil {
		return err
	}
	end := n + len(tokens)
	return c.follow(ctx, name, rows[len(rows)-width:], func(step int, id int32, hidden []float32) ([]float32, error) {
		return c.run(ctx, seq, end-1+step, []int32{id}, hidden, 0)
	}, firstModule)
}

// verifyDraft compares Head.Draft under a rule, and the rounds after it.
func (c *caseRun) verifyDraft(ctx context.Context, rule *chain) error {
	want, err := c.golden.ints(rule.name + ".ids")
	if err != nil {
		return err
	}
	return c.withHead(ctx, mtp.Options{Chain: rule.draft, PostNorm: rule.postNorm, MaxDraft: len(want)}, func(d *caseRun) error {
		draft := func(name string, seq *mtp.Sequence, tokens []int32, hidden []float32) error {
			b := d.batch(seq, seq.Len(), tokens, hidden)
			b.Sequences[0].Drafts = len(want)
			drafts, err := d.head.Draft(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return c.chainResults(name, " (Draft)", drafts[0].Tokens, nil, nil)
		}
		first := d.cache.NewSequence()
		if err := draft(rule.name, first, c.prompt.tokens, c.prompt.hidden); err != nil {
			return err
		}
		for _, name := range rounds[rule.name] {
			tokens, target, err := c.golden.round(name)
			if err != nil {
				return err
			}
			seq, err := first.Fork()
			if err != nil {
				return err
			}
			if err := draft(name, seq, tokens, target); err != nil {
				return err
			}
			if err := seq.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

func argmax(values []float32) int32 {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return int32(best)
}
