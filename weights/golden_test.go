package weights

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
)

// headTensor tells the tensors of a draft head.
func headTensor(name string) bool { _, ok := MapName(name); return ok }

// TestGoldenBroken opens every broken checkpoint whose fault is one of files or
// index. The faults of the others, one of config.json or of the head's
// parameters, are not seen at this level: they open.
func TestGoldenBroken(t *testing.T) {
	dir := hiptest.Shared(t, "golden", "broken")
	faults := map[string]error{
		"truncated-data":            ErrTruncated,
		"truncated-header":          ErrHeaderTruncated,
		"header-length-too-large":   ErrHeaderTruncated,
		"header-length-huge":        ErrHeaderTooLarge,
		"tiny-file":                 ErrFileTooSmall,
		"empty-file":                ErrFileTooSmall,
		"header-not-json":           ErrNotObject,
		"header-not-object":         ErrNotObject,
		"overlapping-offsets":       ErrOverlap,
		"duplicate-keys":            ErrDuplicateKey,
		"offsets-past-end":          ErrTruncated,
		"offsets-reversed":          ErrOffsets,
		"offsets-negative":          ErrOffsets,
		"size-mismatch":             ErrSizeMismatch,
		"shape-overflow":            ErrSizeOverflow,
		"shape-negative":            ErrShape,
		"unknown-dtype":             ErrUnknownDtype,
		"hole-in-data":              ErrHole,
		"trailing-bytes":            ErrTrailingBytes,
		"index-missing-shard":       ErrMissingShard,
		"index-parent-path":         ErrShardPath,
		"index-absolute-path":       ErrShardPath,
		"index-tensor-not-in-shard": ErrIndexMismatch,
		"index-not-json":            ErrNotJSON,
		"no-weights":                ErrNoWeights,
	}
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	require.NoError(t, err)
	var manifest map[string]struct {
		ErrorContains string `json:"error_contains"`
	}
	require.NoError(t, json.Unmarshal(text, &manifest))
	for name := range faults {
		require.Contains(t, manifest, name)
	}
	for name, broken := range manifest {
		t.Run(name, func(t *testing.T) {
			c, err := OpenCheckpoint(os.DirFS(filepath.Join(dir, name)), headTensor)
			if faults[name] == nil {
				require.NoError(t, err)
				require.NoError(t, c.Close())
				return
			}
			require.ErrorIs(t, err, faults[name])
			require.Contains(t, err.Error(), broken.ErrorContains)
		})
	}
}

// goldenFolders are the intact checkpoints.
var goldenFolders = []string{
	"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0", "tiny-init1-local2", "tiny-local0", "slim-real",
}

func TestGoldenCheckpoints(t *testing.T) {
	for _, name := range goldenFolders {
		t.Run(name, func(t *testing.T) {
			dir := hiptest.Shared(t, "golden", name)
			c, err := OpenCheckpoint(os.DirFS(dir), headTensor)
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
			for _, f := range c.Files() {
				requireTiled(t, f)
			}
		})
	}
}

// TestGoldenFormats reads values that are known: the 256 E8M0 codes in order.
func TestGoldenFormats(t *testing.T) {
	f, err := OpenFile(os.DirFS(hiptest.Shared(t, "golden", "formats")), "formats.safetensors")
	require.NoError(t, err)
	defer f.Close()
	codes, ok := f.Tensor("e8m0.codes")
	require.True(t, ok)
	require.Equal(t, "e8m0.codes U8 [256]", codes.String())
	p := make([]byte, 256)
	_, err = codes.ReadAt(p, 0)
	require.NoError(t, err)
	for i, code := range p {
		require.Equal(t, byte(i), code)
	}
	weight, ok := f.Tensor("mxfp8.weight")
	require.True(t, ok)
	require.Equal(t, "mxfp8.weight F8_E4M3 [8 96]", weight.String())
}
