package main

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/m3nano"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestTracesOnGPUs drafts along all built-in traces, from both variants, on every
// emulated GPU: at each its share of the positions, so that together they draft at all.
func TestTracesOnGPUs(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	traces, err := m3nano.Traces()
	require.NoError(t, err)
	emulations := hiptest.Emulations()
	for i, e := range emulations {
		t.Run(e.String(), func(t *testing.T) {
			d := hiptest.Emulated(t, e)
			opts := mtp.Options{CacheFormat: attention.CacheF32, Device: d}
			head, err := mtp.LoadFS(context.Background(), m3nano.Checkpoint(), opts)
			require.NoError(t, err)
			draftTogether(t, head, traces, i, len(emulations))
			require.NoError(t, head.Close())
			head, err = mtp.Load(context.Background(), hiptest.Shared(t, "m3-nano", "bf16"), opts)
			require.NoError(t, err)
			draftTogether(t, head, traces, i, len(emulations))
			require.NoError(t, head.Close())
		})
	}
}

// draftTogether drafts at every stride-th position of the traces, from that of number
// first on, in one ragged batch. Each position has a sequence of its own, forked off its
// trace's, and commits one to three rows.
func draftTogether(t *testing.T, head *mtp.Head, traces []*m3nano.Trace, first, stride int) {
	t.Helper()
	const k = 5
	pages := 0
	for _, trace := range traces {
		pages += len(trace.Tokens)/head.Config().Sparse.BlockSize + 1 + 2*(256/stride+1)
	}
	cache, err := head.NewCache(pages)
	require.NoError(t, err)
	whole := new(mtp.Batch)
	for _, trace := range traces {
		addRows(whole, trace, cache.NewSequence(), len(trace.Tokens)-1)
	}
	_, err = head.Forward(context.Background(), whole, 0)
	require.NoError(t, err)

	type place struct {
		trace *m3nano.Trace
		n     int
	}
	var places []place
	b := new(mtp.Batch)
	for i, trace := range traces {
		for n := trace.PromptLen + (first+i)%stride; n < len(trace.Tokens); n += stride {
			seq, err := whole.Sequences[i].Sequence.Fork()
			require.NoError(t, err)
			require.NoError(t, seq.Truncate(n-1-n%3))
			addRows(b, trace, seq, n)
			places = append(places, place{trace, n})
		}
	}
	drafts, _, err := head.Draft(context.Background(), b, k)
	require.NoError(t, err)
	for i, p := range places {
		recorded := p.trace.Drafts[variant(head)]
		require.Equal(t, k, recorded.K)
		require.Len(t, drafts[i], k)
		require.Zero(t, mismatches(drafts[i], recorded, p.n), "%s, token %d: %v", p.trace.Name, p.n, drafts[i])
	}
}

// addRows adds the rows that a sequence lacks before token n to a batch.
func addRows(b *mtp.Batch, t *m3nano.Trace, seq *mtp.Sequence, n int) {
	from := seq.Len()
	b.Sequences = append(b.Sequences, mtp.Rows{Sequence: seq, Position: from, Tokens: t.Tokens[from+1 : n+1]})
	b.Hidden.BFloat16 = append(b.Hidden.BFloat16, t.Hidden[from*t.Width:n*t.Width]...)
}

var _ hip.Device
