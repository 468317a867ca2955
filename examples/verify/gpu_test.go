package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestTinyCasesOnGPUs runs the tiny golden cases, all stages and chains, on emulated
// GPUs of both platforms and wave sizes.
func TestTinyCasesOnGPUs(t *testing.T) {
	dirs := cases(t)
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		ran := 0
		for _, dir := range dirs {
			if name := filepath.Base(dir); strings.HasPrefix(name, "tiny-") {
				r := verifyCase(context.Background(), dir, d)
				require.Empty(t, r.Error, name)
				for _, s := range r.Stages {
					require.True(t, s.OK, "%s: %s: error %g, bound %g, largest %g", name, s.Name, s.MaxAbs, s.Bound, s.MaxRef)
				}
				require.True(t, r.OK, name)
				ran++
			}
		}
		require.Positive(t, ran)
	})
}
