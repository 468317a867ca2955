package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// stretch is tokens of a trace at which drafts are compared.
type stretch struct {
	*m3tiny.Trace
	from, end int
}

// stretchesOn returns what emulation i of n compares of a variant: half of the traces,
// the other half being for the other variant, and of each a stretch. Together the
// emulations compare every token of every trace with both variants:
//
//	emulation        0         1         2         3       …
//	trace-00         bf16, 1st mxfp8, 1st bf16, 2nd mxfp8, 2nd
//	trace-01         mxfp8, 2nd bf16, 2nd mxfp8, 3rd bf16, 3rd
//	…
func stretchesOn(i, n int, traces []*m3tiny.Trace, v m3tiny.Variant) (all []stretch) {
	for j, trace := range traces {
		turn := (i + j) % 2
		if (turn == 0) != (v == m3tiny.BF16) {
			continue
		}
		share := (n + 1 - i%2) / 2 // emulations that have this variant of the trace
		k := (i/2 + j) % share
		tokens := len(trace.Tokens) - trace.PromptLen
		all = append(all, stretch{trace, trace.PromptLen + k*tokens/share, trace.PromptLen + (k+1)*tokens/share})
	}
	return all
}

// emulations is how many GPUs the traces are divided among.
const emulations = 9

func TestStretchesAreAllThatIsRecorded(t *testing.T) {
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	for _, v := range []m3tiny.Variant{m3tiny.BF16, m3tiny.MXFP8} {
		type token struct {
			trace string
			n     int
		}
		seen := make(map[token]bool)
		for i := range emulations {
			for _, s := range stretchesOn(i, emulations, traces, v) {
				for n := s.from; n < s.end; n++ {
					require.False(t, seen[token{s.Name, n}], "%s%s, token %d", s.Name, v, n)
					seen[token{s.Name, n}] = true
				}
			}
		}
		for _, trace := range traces {
			for n := trace.PromptLen; n < len(trace.Tokens); n++ {
				require.True(t, seen[token{trace.Name, n}], "%s%s, token %d", trace.Name, v, n)
			}
		}
	}
}

// TestTracesOnEmulations drafts along all built-in traces on every emulation.
func TestTracesOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	hiptest.OnEmulations(t, func(t *testing.T, i, n int, d hip.Device) {
		require.Equal(t, emulations, n)
		opts := mtp.Options{CacheFormat: attention.CacheF32, Device: d}
		head, err := mtp.LoadFS(context.Background(), m3tiny.Checkpoint(), opts)
		require.NoError(t, err)
		draftTogether(t, head, stretchesOn(i, n, traces, variant(head)))
		require.NoError(t, head.Close())
		head, err = mtp.Load(context.Background(), hiptest.Shared(t, "m3-tiny", "bundled-bf16"), opts)
		require.NoError(t, err)
		draftTogether(t, head, stretchesOn(i, n, traces, variant(head)))
		require.NoError(t, head.Close())
	})
}

// draftTogether drafts at every token of the stretches in one ragged batch: each has a
// sequence of its own, forked off its trace's, and commits one or two rows.
func draftTogether(t *testing.T, head *mtp.Head, stretches []stretch) {
	t.Helper()
	const k = 5
	size, pages := head.Config().Attention.BlockSize, 0
	for _, s := range stretches {
		pages += s.end/size + 1 + 2*(s.end-s.from) // those that a fork writes to are its own
	}
	cache, err := head.NewCache(pages)
	require.NoError(t, err)
	committed := new(mtp.Batch)
	for _, s := range stretches {
		addRows(committed, s.Trace, cache.NewSequence(), s.end-2)
	}
	_, err = head.Draft(context.Background(), committed)
	require.NoError(t, err)

	b := new(mtp.Batch)
	for i, s := range stretches {
		for n := s.from; n < s.end; n++ {
			seq, err := committed.Sequences[i].Sequence.Fork()
			require.NoError(t, err)
			require.NoError(t, seq.Truncate(n-1-n%2))
			addRows(b, s.Trace, seq, n)
		}
	}
	for i := range b.Sequences {
		b.Sequences[i].Drafts = k
	}
	drafts, err := head.Draft(context.Background(), b)
	require.NoError(t, err)
	for _, s := range stretches {
		recorded := s.Drafts[variant(head)]
		require.Equal(t, k, recorded.K)
		for n := s.from; n < s.end; n, drafts = n+1, drafts[1:] {
			tokens := drafts[0].Tokens
			require.Len(t, tokens, k)
			require.Zero(t, mismatches(tokens, recorded, n), "%s, token %d: %v", s.Name, n, tokens)
		}
	}
	require.Empty(t, drafts)
}

// addRows adds to a batch the rows that a sequence lacks before token n.
func addRows(b *mtp.Batch, t *m3tiny.Trace, seq *mtp.Sequence, n int) {
	from := seq.Len()
	b.Sequences = append(b.Sequences, mtp.Rows{Sequence: seq, Position: from, Tokens: t.Tokens[from+1 : n+1]})
	b.Hidden.BFloat16 = append(b.Hidden.BFloat16, t.Hidden[from*t.Width:n*t.Width]...)
}
