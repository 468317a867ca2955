package hip

import "fmt"

// Activations says how products round what they multiply with weights. The zero value
// rounds nothing. Three options take it, which do not exclude each other:
//
//	                      rounds                        on             chosen by
//	ActivationsBF16x2     each value, for any weights   a CPU, for     [HostOptions], for all
//	ActivationsBF16       with as few bits              speed          that the device runs, or
//	                                                                   mtp.Options.DraftActivations,
//	                                                                   for a head's drafts
//	ActivationsMXFP8      rows for MXFP8 weights, 32    any device,    mtp.Options.Activations, for
//	                      columns with one scale        alike          one head
type Activations int

const (
	// ActivationsExact multiplies values as they are: as float32, or as several bfloat16
	// that add up to them, whichever is faster.
	ActivationsExact Activations = iota
	// ActivationsMXFP8 rounds 32 columns of a row at a time to F8_E4M3 with one scale, a
	// power of two: values keep 4 significant bits.
	ActivationsMXFP8
	// ActivationsBF16x2 rounds each value to the sum of two bfloat16, to the nearest: by up
	// to 2^−17 of itself. Results are within 2·10^−5 of the largest.
	ActivationsBF16x2
	// ActivationsBF16 rounds each value to the nearest bfloat16, by up to 2^−9 of itself, as
	// most engines do. Results are within 10^−2 of the largest.
	ActivationsBF16
)

var activationsNames = [...]string{
	ActivationsExact: "exact", ActivationsMXFP8: "mxfp8", ActivationsBF16x2: "bf16x2", ActivationsBF16: "bf16",
}

// String returns "exact", "mxfp8", "bf16x2" or "bf16".
func (a Activations) String() string {
	if a < 0 || int(a) >= len(activationsNames) {
		return fmt.Sprintf("Activations(%d)", int(a))
	}
	return activationsNames[a]
}

// ofHost reports whether a CPU device rounds so.
func (a Activations) ofHost() bool {
	return a == ActivationsExact || a == ActivationsBF16x2 || a == ActivationsBF16
}

// maxError is what rounding on a host may add to the error of a product, of its largest
// result.
func (a Activations) maxError() float64 {
	switch a {
	case ActivationsBF16x2:
		return 2e-5
	case ActivationsBF16:
		return 1e-2
	}
	return 0
}
