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

// TestPositionsOnGPUs drafts along the built-in traces on emulated GPUs of both
// platforms and wave sizes, here and there.
func TestPositionsOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		head, err := mtp.LoadFS(context.Background(), m3nano.Checkpoint(), mtp.Options{CacheFormat: attention.CacheF32, Device: d})
		require.NoError(t, err)
		defer head.Close()
		everyPosition(t, head, 128)
	})
}
