// Package rope makes rotary frequencies by the rules that a config names.
package rope

import (
	"math"
)

// The rules that [Rule.Type] names, spelled as the rope_type of a Hugging Face config.
const (
	Default = "default" // plain RoPE
	Linear  = "linear"  // position interpolation: positions are divided by Factor
	YaRN    = "yarn"    // interpolates slow dimensions and keeps fast ones (arXiv:2309.00071)
)

// Rule is what a config says of the rotary embedding. Its methods expect the values of a
// checked config.
type Rule struct {
	Type        string  // Default, also if it is empty, Linear or YaRN
	Theta       float64 // rope_theta, the base of the frequencies
	Dim         int     // rotary_dim, the rotated width of a head, even
	MaxPosition int     // max_position_embeddings

	// Factor stretches the range of positions (linear, yarn).
	Factor float64
	// OriginalMaxPosition is the range before stretching (yarn).
	OriginalMaxPosition int
	// BetaFast and BetaSlow are numbers of rotations over OriginalMaxPosition. A dimension
	// with more than BetaFast keeps its frequency; one with fewer than BetaSlow is fully
	// interpolated (yarn).
	BetaFast, BetaSlow float64
}

// Frequencies returns the Dim/2 angles per position, in radians. With
// f[j] = Theta^(−2j/Dim):
//
//	default  f[j]
//	linear   f[j] / Factor
//	yarn     f[j]/Factor · ramp[j] + f[j] · (1 − ramp[j])
//
//	ramp[j]  = clamp((j − low) / (high − low), 0, 1)
//	low      = max(⌊dimension(BetaFast)⌋, 0)
//	high     = min(⌈dimension(BetaSlow)⌉, Dim − 1), and 0.001 more should it equal low
//	dimension(rotations) = Dim · ln(OriginalMaxPosition / (2π·rotations)) / (2·ln Theta)
//
// These are the formulas of _compute_yarn_parameters in Hugging Face transformers and of
// YaRNScalingRotaryEmbedding in vLLM. Both compute in float32, Frequencies in float64.
func (r Rule) Frequencies() []float64 {
	frequencies := make([]float64, r.Dim/2)
	for j := range frequencies {
		frequencies[j] = math.Pow(r.Theta, -2*float64(j)/float64(r.Dim))
	}
	switch r.Type {
	case Linear:
		for j := range frequencies {
			frequencies[j] /= r.Factor
		}
	case YaRN:
		low, high := r.correctionRange()
		for j, f := range frequencies {
			ramp := min(max((float64(j)-low)/(high-low), 0), 1)
			frequencies[j] = f/r.Factor*ramp + f*(1-ramp)
		}
	}
	return frequencies
}

// correctionRange returns the pair indices between which YaRN passes from the
// kept to the interpolated frequency.
func (r Rule) correctionRange() (low, high float64) {
	dimension := func(rotations float64) float64 {
		turns := float64(r.OriginalMaxPosition) / (2 * math.Pi * rotations)
		return float64(r.Dim) * math.Log(turns) / (2 * math.Log(r.Theta))
	}
	low = max(math.Floor(dimension(r.BetaFast)), 0)
	high = min(math.Ceil(dimension(r.BetaSlow)), float64(r.Dim-1))
	if low == high {
		high += 0.001
	}
	return low, high
}

// Positions returns the number of positions: a valid position p satisfies 0 <= p <
// Positions(). The ranges are those of vLLM's cos/sin cache:
//
//	default  MaxPosition
//	linear   ⌈MaxPosition · Factor⌉
//	yarn     max(MaxPosition, ⌈OriginalMaxPosition · Factor⌉)
//
// The result is at most math.MaxInt32, since positions are int32 in the kernels.
func (r Rule) Positions() int {
	positions := float64(r.MaxPosition)
	switch r.Type {
	case Linear:
		positions = math.Ceil(positions * r.Factor)
	case YaRN:
		positions = max(positions, math.Ceil(float64(r.OriginalMaxPosition)*r.Factor))
	}
	if positions > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(positions)
}
