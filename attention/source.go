package attention

import _ "embed"

var (
	//go:embed rows.hip
	rowsHIP string
	//go:embed insert.hip
	insertHIP string
	//go:embed indexer.hip
	scoresHIP string
	//go:embed select.hip
	selectHIP string
	//go:embed sparse_common.hip
	sparseCommonHIP string
	//go:embed sparse.hip
	sparseHIP string
	//go:embed sparse_parts.hip
	sparsePartsHIP string
)
