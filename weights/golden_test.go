package weights

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// goldenFolders are the intact checkpoints.
var goldenFolders = []string{
	"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0", "tiny-init1-local2", "tiny-init3-local2", "tiny-local0", "tiny-3modules", "slim-real",
}

func TestGoldenCheckpoints(t *testing.T) {
	for _, name := range goldenFolders {
		t.Run(name, func(t *testing.T) {
			dir := hiptest.Shared(t, "golden", name)
			c, err := OpenCheckpoint(os.DirFS(dir))
			require.NoError(t, err)
			defer c.Close()
			layers := make(map[int]bool)
			for _, tensor := range c.Tensors() {
				if layer, ok := MTPLayer(tensor.Name); ok {
					layers[layer] = true
				}
				if data, ok := tensor.Bytes(); ok {
					require.Len(t, data, int(tensor.Size()))
				}
			}
			require.True(t, layers[0])
		})
	}
}

// TestGoldenFormats reads values that are known: the 256 E8M0 codes in order.
func TestGoldenFormats(t *testing.T) {
	f, err := safetensors.Open(os.DirFS(hiptest.Shared(t, "golden", "formats")), "formats.safetensors")
	require.NoError(t, err)
	defer f.Close()
	codes, ok := f.Tensor("e8m0.codes")
	require.True(t, ok)
	require.Equal(t, safetensors.U8, codes.Dtype)
	require.Equal(t, []int{256}, codes.Shape)
	p := make([]byte, 256)
	_, err = codes.ReadAt(p, 0)
	require.NoError(t, err)
	for i, code := range p {
		require.Equal(t, byte(i), code)
	}
	weight, ok := f.Tensor("mxfp8.weight")
	require.True(t, ok)
	require.Equal(t, safetensors.F8E4M3, weight.Dtype)
	require.Equal(t, []int{8, 96}, weight.Shape)
}
