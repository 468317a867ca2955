package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/mtp"
)

// feed is what a head gets along a trace: row i has the token and the hidden state at i, and
// position i.
type feed struct {
	tokens []int32  // [N−1]
	hidden []uint16 // [N−1, width]
	from   int      // the row of the trace that is row 0
}

// rightFeed gives row i the token after position i and the hidden state at it.
func rightFeed(t *m3tiny.Trace, hidden []uint16) feed {
	n := len(t.Tokens) - 1
	return feed{tokens: t.Tokens[1:], hidden: hidden[:n*t.Width]}
}

// mistakes are ways to feed a head wrongly that integrations have, with what each does. Each
// changes what rightFeed returns.
var mistakes = []struct {
	name, does string
	change     func(f *feed, t *m3tiny.Trace)
}{
	{"tokens_not_shifted", "row i has token i, not i+1", func(f *feed, t *m3tiny.Trace) {
		f.tokens = t.Tokens[:len(t.Tokens)-1]
	}},
	{"next_hidden", "row i has the hidden state of position i+1", func(f *feed, t *m3tiny.Trace) {
		f.hidden = t.Hidden[t.Width:]
	}},
	{"previous_hidden", "row i has the hidden state of position i-1", func(f *feed, t *m3tiny.Trace) {
		f.hidden = slices.Concat(f.hidden[:t.Width], f.hidden[:len(f.hidden)-t.Width])
	}},
	{"no_hidden", "hidden states are all zero: a buffer that nothing fills", func(f *feed, t *m3tiny.Trace) {
		f.hidden = make([]uint16, len(f.hidden))
	}},
	{"no_prompt", "the head never ran the prompt: its cache begins after it", func(f *feed, t *m3tiny.Trace) {
		f.from = t.PromptLen - 1
		f.tokens, f.hidden = f.tokens[f.from:], f.hidden[f.from*t.Width:]
	}},
}

// Rows that are committed at a time, and places that are drafted from at a time: they bound
// working memory.
const (
	rowsAtATime   = 512
	draftsAtATime = 64
)

// cacheFor returns a cache that draftEverywhere can draft k tokens with along any of the
// traces.
func cacheFor(head *mtp.Head, traces []*m3tiny.Trace, k int) (*mtp.Cache, error) {
	longest, block := 0, head.Config().Attention.BlockSize
	for _, t := range traces {
		longest = max(longest, len(t.Tokens))
	}
	perFork := 3*k/block + 2 // rows that run again, those that are written again, and those of the chain
	return head.NewCache((longest+k)/block + 1 + draftsAtATime*perFork)
}

// draftEverywhere drafts k tokens after each token n of a trace from its prompt's end on,
// with tokens 0 … n known and n's hidden state not. Row n−PromptLen of the result has k
// tokens; −1 where a chain was shorter. The places share what the trace committed, and many
// are drafted from at a time. onPlaces is told how many are done.
func draftEverywhere(ctx context.Context, head *mtp.Head, cache *mtp.Cache, t *m3tiny.Trace, f feed, k int, onPlaces func(int)) (drafts [][]int32, err error) {
	if t.Width != head.Config().HiddenSize {
		return nil, widthError(t, head)
	}
	seq := cache.NewSequence()
	defer seq.Close()
	rows := func(seq *mtp.Sequence, from, to, drafts int) mtp.Rows {
		return mtp.Rows{Sequence: seq, Position: from, Tokens: f.tokens[from:to], Drafts: drafts}
	}
	for from := 0; from < len(f.tokens); from += rowsAtATime {
		to := min(from+rowsAtATime, len(f.tokens))
		b := &mtp.Batch{
			Sequences: []mtp.Rows{rows(seq, from, to, 0)},
			Hidden:    mtp.Hidden{BFloat16: f.hidden[from*t.Width : to*t.Width]},
		}
		if _, err := head.Draft(ctx, b); err != nil {
			return nil, fmt.Errorf("%s, rows %d to %d: %w", t.Name, from, to-1, err)
		}
	}
	some := func(first, n int) ([][]int32, error) {
		b := &mtp.Batch{Sequences: make([]mtp.Rows, n)}
		defer func() {
			for _, r := range b.Sequences {
				r.Sequence.Close()
			}
		}()
		for i := range b.Sequences {
			fork, err := seq.Fork()
			if err != nil {
				return nil, err
			}
			b.Sequences[i].Sequence = fork
			to := first + i - f.from // rows before the token, of which the last drafts
			if err := fork.Truncate(to - 1); err != nil {
				return nil, err
			}
			from := fork.Resume()
			b.Sequences[i] = rows(fork, from, to, k)
			b.Hidden.BFloat16 = append(b.Hidden.BFloat16, f.hidden[from*t.Width:to*t.Width]...)
		}
		made, err := head.Draft(ctx, b)
		if err != nil {
			return nil, err
		}
		out := make([][]int32, n)
		for i, d := range made {
			if d.Err != nil {
				return nil, d.Err
			}
			out[i] = d.Tokens
			for len(out[i]) < k {
				out[i] = append(out[i], endOfTrace)
			}
		}
		return out, nil
	}
	for n := t.PromptLen; n < len(t.Tokens); n += draftsAtATime {
		part, err := some(n, min(draftsAtATime, len(t.Tokens)-n))
		if err != nil {
			return nil, fmt.Errorf("%s, from token %d on: %w", t.Name, n, err)
		}
		drafts = append(drafts, part...)
		onPlaces(len(part))
	}
	return drafts, nil
}
