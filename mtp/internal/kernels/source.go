package kernels

import _ "embed"

var (
	//go:embed embed.hip
	embedHIP string
	//go:embed widen_bf16.hip
	widenBF16HIP string
	//go:embed topk.hip
	topkHIP string
	//go:embed copy_words.hip
	copyWordsHIP string
	//go:embed take_rows.hip
	takeRowsHIP string
	//go:embed topk_ranks.hip
	topkRanksHIP string
	//go:embed join_columns.hip
	joinColumnsHIP string
	//go:embed clear.hip
	clearHIP string
)

// ceilDiv returns how many blocks of the given size n values take.
func ceilDiv(n, size int) int { return n/size + min(n%size, 1) }
