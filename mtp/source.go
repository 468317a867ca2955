package mtp

import _ "embed"

var (
	//go:embed embed.hip
	embedHIP string
	//go:embed convert.hip
	widenHIP string
	//go:embed topk.hip
	topkHIP string
	//go:embed copy_words.hip
	copyWordsHIP string
	//go:embed take_rows.hip
	takeRowsHIP string
)
