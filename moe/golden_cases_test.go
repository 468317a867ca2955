package moe_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestGolden runs the mixture of every reference checkpoint.
func TestGolden(t *testing.T) {
	for _, name := range []string{
		"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0", "tiny-init1-local2", "tiny-init3-local2", "tiny-local0", "tiny-3modules",
		"slim-real",
	} {
		t.Run(name, func(t *testing.T) {
			fsys := os.DirFS(hiptest.Shared(t, "golden", name))
			c, err := mtp.ReadConfig(fsys)
			require.NoError(t, err)
			checkpoint, err := weights.OpenCheckpoint(fsys)
			require.NoError(t, err)
			defer checkpoint.Close()
			recorded, err := safetensors.Open(fsys, "golden.safetensors")
			require.NoError(t, err)
			defer recorded.Close()
			config := moe.Config{
				Hidden: c.HiddenSize, Intermediate: c.MoE.Intermediate, SharedIntermediate: c.MoE.SharedIntermediate,
				Experts: c.MoE.Experts, TopK: c.MoE.TopK,
				Scale: c.MoE.Scale, Alpha: c.MoE.Alpha, Limit: c.MoE.Limit, Beta: c.MoE.Beta,
			}
			for module := range c.NumMTPModules {
				t.Run(fmt.Sprintf("module %d", module), func(t *testing.T) {
					moe.CompareGolden(t, config, checkpoint, recorded, module)
				})
			}
		})
	}
}
