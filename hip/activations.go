package hip

import "fmt"

// Activations says how products round what they multiply with weights. The zero value
// rounds nothing.
type Activations int

const (
	// ActivationsExact multiplies values as they are.
	ActivationsExact Activations = iota
	// ActivationsMXFP8 rounds 32 columns of a row at a time to F8_E4M3 with one scale, a
	// power of two: values keep 4 significant bits.
	ActivationsMXFP8
)

// String returns "exact" or "mxfp8".
func (a Activations) String() string {
	switch a {
	case ActivationsExact:
		return "exact"
	case ActivationsMXFP8:
		return "mxfp8"
	}
	return fmt.Sprintf("Activations(%d)", int(a))
}
