package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// inputsPerWork is how many different inputs a work cycles through, so that runs
// pick different experts.
const inputsPerWork = 4

// work is one row of the report: a call that is timed, again and again.
type work struct {
	name     string
	rows     int  // of the call
	context  int  // positions before the rows, of each sequence
	k        int  // drafts; 0: Forward, which makes no logits
	commits  bool // Draft of one sequence, which leaves out what it does not need of its rows
	lengths  []int
	inputs   []*mtp.Batch
	pageSize int
	drafting *drafting // nil: by lm_head as stored, on the head that all share
	products *products // multiplied in place of a call of the head
}

// variants is the different inputs there are.
func (w *work) variants() int {
	if w.products != nil {
		return len(w.products.sets)
	}
	return len(w.inputs)
}

// pages returns the pages of the cache that the work needs.
func (w *work) pages() int { return len(w.lengths) * w.pagesPerSequence() }

// pagesPerSequence covers the context, the rows and what a chain writes.
func (w *work) pagesPerSequence() int {
	return (w.context + slices.Max(w.lengths) + max(w.k, 1) - 1 + w.pageSize - 1) / w.pageSize
}

// run does the work with input i < variants.
func (w *work) run(ctx context.Context, head *mtp.Head, i int) error {
	if w.products != nil {
		return w.products.run(i, w.rows)
	}
	return w.call(ctx, head, w.inputs[i])
}

// call is a run of the head.
func (w *work) call(ctx context.Context, head *mtp.Head, b *mtp.Batch) (err error) {
	if w.k == 0 {
		_, err = head.Forward(ctx, b, 0)
	} else {
		_, err = head.Draft(ctx, b)
	}
	if err != nil {
		return fmt.Errorf("%s, %d rows after %d positions: %w", w.name, w.rows, w.context, err)
	}
	return nil
}

// traffic runs input b once more and returns the bytes that it has to read, the
// flops of its products, and the different experts picked, over its passes.
func (w *work) traffic(ctx context.Context, head *mtp.Head, m *model, b *mtp.Batch) (t traffic, err error) {
	watch := watcher{model: m, drafts: w.k > 0}
	observed := *b
	for _, n := range w.lengths {
		watch.spans = append(watch.spans, span{w.context, w.context + n})
	}
	if w.commits { // only the last row goes past its keys and values
		watch.spans[0].from = watch.spans[0].end - 1
		t.bytes, t.flops = m.written(w.rows - 1)
	}
	observed.Observe = watch.observe
	if err := w.call(ctx, head, &observed); err != nil {
		return traffic{}, err
	}
	if want := max(w.k, 1); len(watch.passes) != want {
		return traffic{}, fmt.Errorf("%s: %d passes were observed, want %d", w.name, len(watch.passes), want)
	}
	for _, p := range watch.passes {
		t.bytes += m.bytes(p)
		t.flops += m.flops(p)
		t.picked += p.picked
	}
	return t, nil
}

// count returns the traffic of the inputs that were timed.
func (w *work) count(ctx context.Context, head *mtp.Head, m *model, runs []timedRun) (moved []traffic, err error) {
	for _, input := range w.inputs[:min(len(w.inputs), len(runs))] {
		t, err := w.traffic(ctx, head, m, input)
		if err != nil {
			return nil, err
		}
		moved = append(moved, t)
	}
	return moved, nil
}

// traffic is what one call moves and computes.
type traffic struct {
	bytes  int64
	flops  float64
	picked int
}

// plan lists the works that the flags ask for. All flags that exceed the positions of
// the head are reported.
func (s *settings) plan(c *mtp.Config) ([]*work, error) {
	contexts, commits, prefills, limit := s.contexts, s.commits, s.prefills, c.Attention.Rope.Positions
	if contexts == nil {
		contexts = clip([]int{min(defaultContexts[0], limit/4), defaultContexts[1]}, limit-s.k)
	}
	if commits == nil {
		commits = clip(defaultCommits, limit-contexts[0])
	}
	if prefills == nil {
		prefills = clip(defaultPrefills, limit)
	}
	if err := s.checkPositions(contexts, commits, prefills, limit); err != nil {
		return nil, err
	}
	var works []*work
	add := func(name string, context, k int, lengths ...int) {
		w := &work{name: name, context: context, k: k, lengths: lengths, pageSize: c.Attention.BlockSize}
		for _, n := range lengths {
			w.rows += n
		}
		works = append(works, w)
	}
	first := contexts[0]
	add("step", first, 1, 1)
	if s.cheap {
		for _, d := range cheapDraftings(c.VocabSize) {
			add(d.appendTo("step"), first, 1, 1)
			works[len(works)-1].drafting = &d
		}
	}
	if s.k > 1 {
		add("chain", first, s.k, 1)
	}
	for _, n := range s.batches {
		add("batch", first, 1, slices.Repeat([]int{1}, n)...)
	}
	for _, n := range commits {
		add("commit", first, 1, n)
		works[len(works)-1].commits = true
	}
	for _, n := range prefills {
		add("prefill", 0, 0, n)
	}
	for _, n := range contexts[1:] {
		add("long context", n, 1, 1)
	}
	return works, nil
}

// checkPositions refuses what a head of limit positions has no room for: a line for
// each flag.
func (s *settings) checkPositions(contexts, commits, prefills []int, limit int) error {
	var wrong cli.Refused
	refuse := func(bad bool, flag string, values []int, want string, args ...any) {
		wrong.If(bad, "-%s is %s, and the head has %d positions: want %s", flag, listText(values), limit, fmt.Sprintf(want, args...))
	}
	first, others := contexts[0], contexts[1:]
	if s.k >= limit {
		refuse(true, "k", []int{s.k}, "at most %d", limit-1)
	} else if s.k > 1 {
		refuse(first > limit-s.k || slices.ContainsFunc(others, func(n int) bool { return n >= limit }), "context", contexts,
			"at most %d for the first, after which -k %d has to fit, and %d for the others", limit-s.k, s.k, limit-1)
	} else {
		refuse(slices.Max(contexts) >= limit, "context", contexts, "at most %d", limit-1)
	}
	refuse(first < limit && slices.Max(commits) > limit-first, "commit", commits, "at most %d after the first -context of %d", limit-first, first)
	refuse(slices.Max(prefills) > limit, "prefill", prefills, "at most that")
	return wrong.Err()
}

// clip returns the defaults that fit, each once.
func clip(defaults []int, limit int) (values []int) {
	for _, v := range defaults {
		if v = max(min(v, limit), 1); !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}

// leaveOutput makes calls that return hidden states leave them on the device, at p: nothing
// more is needed to fill a cache.
func (w *work) leaveOutput(p hip.Ptr) {
	for _, b := range w.inputs {
		if w.k == 0 {
			b.Output = p
		}
	}
}

// takeHidden brings the hidden states to a GPU, in bfloat16, where a target on that GPU leaves
// them.
func (w *work) takeHidden(d hip.Device) error {
	if !d.Info().IsGPU() {
		return nil
	}
	for _, b := range w.inputs {
		states := make([]hip.BF16, len(b.Hidden.Float32))
		for i, v := range b.Hidden.Float32 {
			states[i] = hip.ToBF16(v)
		}
		p, err := hip.Upload(d, states)
		if err != nil {
			return err
		}
		b.Hidden = mtp.Hidden{Device: p, DeviceBFloat16: true}
	}
	return nil
}

// prepare makes the inputs: random tokens and hidden states of size 1, as a final
// norm leaves them, after pages that lie all over the cache.
func (w *work) prepare(c *mtp.Config, cache *mtp.Cache, random *rand.Rand) {
	per := w.pagesPerSequence()
	pages := random.Perm(cache.Pages())
	for range inputsPerWork {
		b := &mtp.Batch{Cache: cache}
		for i, n := range w.lengths {
			r := mtp.Rows{Position: w.context, Drafts: w.k}
			for _, page := range pages[i*per : (i+1)*per] {
				r.BlockTable = append(r.BlockTable, int32(page))
			}
			for range n {
				r.Tokens = append(r.Tokens, random.Int32N(int32(c.VocabSize)))
			}
			b.Sequences = append(b.Sequences, r)
		}
		b.Hidden.Float32 = make([]float32, w.rows*c.HiddenSize)
		for i := range b.Hidden.Float32 {
			b.Hidden.Float32[i] = float32(random.NormFloat64())
		}
		w.inputs = append(w.inputs, b)
	}
}
