package attention_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestGolden runs the attention of every tiny case.
func TestGolden(t *testing.T) {
	for _, name := range []string{
		"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0", "tiny-init1-local2", "tiny-init3-local2", "tiny-local0", "tiny-3modules",
	} {
		t.Run(name, func(t *testing.T) {
			fsys := os.DirFS(hiptest.Shared(t, "golden", name))
			c, err := mtp.ReadConfig(fsys)
			require.NoError(t, err)
			recorded, err := safetensors.Open(fsys, "golden.safetensors")
			require.NoError(t, err)
			defer recorded.Close()
			g := c.Attention
			for layer := range c.NumMTPModules {
				t.Run(fmt.Sprintf("layer %d", layer), func(t *testing.T) {
					attention.CompareGolden(t, g, recorded, layer)
				})
			}
		})
	}
}
