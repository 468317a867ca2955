package norm

import _ "embed"

var (
	//go:embed rms.hip
	rmsHIP string
	//go:embed rmsnorm.hip
	rmsNormHIP string
)

// RMSSource returns the HIP side of [RMS64]. It goes before the source of a kernel
// that normalizes.
func RMSSource() string { return rmsHIP }
