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

// TestPositionsOnGPUs drafts at a few positions of built-in traces on emulated GPUs of
// both platforms and wave sizes.
func TestPositionsOnGPUs(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	traces, err := m3nano.Traces()
	require.NoError(t, err)
	const k = 5
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		head, err := mtp.LoadFS(context.Background(), m3nano.Checkpoint(), mtp.Options{CacheFormat: attention.CacheF32, Device: d})
		require.NoError(t, err)
		defer head.Close()
		cache, err := head.NewCache(1 + 512/head.Config().Sparse.BlockSize)
		require.NoError(t, err)
		for _, trace := range []*m3nano.Trace{traces[0], traces[7]} {
			seq := cache.NewSequence()
			for _, n := range []int{trace.PromptLen, trace.PromptLen + 33} {
				drafts, err := draftAt(context.Background(), head, seq, trace, n, k)
				require.NoError(t, err)
				require.Len(t, drafts, k)
				require.Zero(t, mismatches(drafts, trace.Drafts[variant(head)], n), "%s, token %d: %v", trace.Name, n, drafts)
			}
			require.NoError(t, seq.Close())
		}
	})
}
