package norm

import _ "embed"

var (
	//go:embed rms.hip
	rmsHIP string
	//go:embed rmsrow.hip
	rmsRowHIP string
	//go:embed rmsnorm.hip
	rmsNormHIP string
)

// RMSSource returns the HIP side of [vec.RMS64] for rows that are short, as heads are. It
// goes before the source of a kernel that normalizes.
func RMSSource() string { return rmsHIP }

// RMSRowSource returns the HIP side of [vec.RMS64] for rows that are long, as hidden
// states are, by blocks of 512 threads.
func RMSRowSource() string { return rmsRowHIP }
