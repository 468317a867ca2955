package attention

import (
	_ "embed"

	"github.com/drafthead/drafthead/hip"
)

var (
	//go:embed rows.h
	rowsH string
	//go:embed qk_norm_rope_insert.hip
	insertHIP string
	//go:embed index_scores.hip
	indexScoresHIP string
	//go:embed select_blocks.hip
	selectBlocksHIP string
	//go:embed sparse.h
	sparseH string
	//go:embed sparse_attention.hip
	sparseAttentionHIP string
	//go:embed sparse_attention_parts.hip
	sparsePartsHIP string
	//go:embed sparse_tiles.h
	sparseTilesH string
	//go:embed sparse_tiles.hip
	sparseTilesHIP string
	//go:embed sparse_attention_merge.hip
	sparseMergeHIP string
)

// rowsSource is the HIP side of a [Batch] and of cache formats.
func rowsSource() string {
	return hip.Define("cacheBF16", int(CacheBF16)) + hip.Define("cacheF32", int(CacheF32)) + hip.Define("cacheFP8", int(CacheFP8)) + rowsH
}

// sparseSource is what the kernels of sparse attention share: their arguments, and the keys
// of a part.
func sparseSource() string { return rowsSource() + hip.Define("partKeys", partKeys) + sparseH }
