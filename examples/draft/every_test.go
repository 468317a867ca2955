package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// positionStride thins out the positions of a trace.
func positionStride() int {
	if hiptest.RaceDetector {
		return 16
	}
	return 1
}

// TestEveryPosition compares five drafts all along the built-in traces, not
// only where the serve loop comes by.
func TestEveryPosition(t *testing.T) {
	head, err := mtp.LoadFS(context.Background(), m3tiny.Checkpoint(), mtp.Options{CacheFormat: attention.CacheF32})
	require.NoError(t, err)
	defer head.Close()
	everyPosition(t, head, positionStride())
}

func TestEveryPositionOfTheBF16Variant(t *testing.T) {
	head, err := mtp.Load(context.Background(), hiptest.Shared(t, "m3-tiny", "bundled-bf16"), mtp.Options{CacheFormat: attention.CacheF32})
	require.NoError(t, err)
	defer head.Close()
	everyPosition(t, head, positionStride())
}

// TestEveryLevel drafts with every level of vector instructions, from both variants.
func TestEveryLevel(t *testing.T) {
	stride := 4
	if hiptest.RaceDetector {
		stride = 64
	}
	for name, device := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			defer device.Close()
			opts := mtp.Options{CacheFormat: attention.CacheF32, Device: device}
			head, err := mtp.LoadFS(context.Background(), m3tiny.Checkpoint(), opts)
			require.NoError(t, err)
			everyPosition(t, head, stride)
			require.NoError(t, head.Close())
			head, err = mtp.Load(context.Background(), hiptest.Shared(t, "m3-tiny", "bundled-bf16"), opts)
			require.NoError(t, err)
			everyPosition(t, head, stride)
			require.NoError(t, head.Close())
		})
	}
}

func TestReferenceDevice(t *testing.T) {
	device := hip.NewReference()
	defer device.Close()
	head, err := mtp.LoadFS(context.Background(), m3tiny.Checkpoint(), mtp.Options{CacheFormat: attention.CacheF32, Device: device})
	require.NoError(t, err)
	defer head.Close()
	if hiptest.RaceDetector {
		t.Skip("one goroutine over plain twins has no races to find")
	}
	everyPosition(t, head, 32)
}

func everyPosition(t *testing.T, head *mtp.Head, stride int) {
	t.Helper()
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	cache, err := head.NewCache(1 + 512/head.Config().Attention.BlockSize)
	require.NoError(t, err)
	const k = 5
	compared := 0
	for i, trace := range traces {
		recorded := trace.Drafts[variant(head)]
		require.Equal(t, k, recorded.K)
		seq := cache.NewSequence()
		for n := trace.PromptLen + i%stride; n < len(trace.Tokens); n += stride {
			drafts, err := draftAt(context.Background(), &drafter{head: head}, seq, trace, n, k)
			require.NoError(t, err)
			require.Zero(t, mismatches(drafts, recorded, n), "%s, token %d: %v", trace.Name, n, drafts)
			compared++
		}
		require.NoError(t, seq.Close())
	}
	require.GreaterOrEqual(t, compared, 3*256/stride)
}

func TestTraceFiles(t *testing.T) {
	for _, trace := range []string{"trace-00", "trace-04"} {
		path := filepath.Join("..", "m3tiny", "traces")
		got, err := m3tiny.ReadTrace(os.DirFS(path), trace+".safetensors")
		require.NoError(t, err)
		require.Equal(t, trace, got.Name)
		require.Equal(t, 256, got.Width)
		require.Len(t, got.Drafts, 6)
	}
}
