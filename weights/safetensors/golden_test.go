package safetensors

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
)

// headTensor reports whether a tensor is one of a draft head.
func headTensor(name string) bool {
	return name == "model.embed_tokens.weight" || name == "lm_head.weight" || strings.Contains(name, "model.mtp.layers.")
}

// TestGoldenBroken opens every broken checkpoint whose fault is one of files or
// index. The faults of the others, one of config.json or of the head's
// parameters, are not seen at this level: they open.
func TestGoldenBroken(t *testing.T) {
	dir := hiptest.Shared(t, "golden", "broken")
	faults := map[string]error{
		"truncated-data":            ruleTruncated,
		"truncated-header":          ruleHeaderTruncated,
		"header-length-too-large":   ruleHeaderTruncated,
		"header-length-huge":        ruleHeaderTooLarge,
		"tiny-file":                 ruleFileTooSmall,
		"empty-file":                ruleFileTooSmall,
		"header-not-json":           ruleNotObject,
		"header-not-object":         ruleNotObject,
		"overlapping-offsets":       ruleOverlap,
		"duplicate-keys":            ruleDuplicateKey,
		"offsets-past-end":          ruleTruncated,
		"offsets-reversed":          ruleOffsets,
		"offsets-negative":          ruleOffsets,
		"size-mismatch":             ruleSizeMismatch,
		"shape-overflow":            ruleSizeOverflow,
		"shape-negative":            ruleShape,
		"unknown-dtype":             ruleUnknownDtype,
		"hole-in-data":              ruleHole,
		"trailing-bytes":            ruleTrailingBytes,
		"index-missing-shard":       ruleMissingShard,
		"index-parent-path":         ruleShardPath,
		"index-absolute-path":       ruleShardPath,
		"index-tensor-not-in-shard": ruleIndexMismatch,
		"index-not-json":            ruleNotJSON,
		"no-weights":                ruleNoWeights,
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
			c, err := OpenFolder(os.DirFS(filepath.Join(dir, name)), headTensor)
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

// TestGoldenFolders: the files of intact checkpoints, in whole.
func TestGoldenFolders(t *testing.T) {
	for _, name := range []string{
		"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0", "tiny-init1-local2", "tiny-init3-local2", "tiny-local0", "tiny-3modules", "slim-real",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := OpenFolder(os.DirFS(hiptest.Shared(t, "golden", name)), headTensor)
			require.NoError(t, err)
			defer c.Close()
			for _, f := range c.files {
				requireTiled(t, f)
			}
		})
	}
}
