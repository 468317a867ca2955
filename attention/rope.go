package attention

import (
	"math"
	"slices"
)

// The rules that [Rope.Type] names.
const (
	ropeDefault = "default"
	ropeLinear  = "linear"
	ropeYaRN    = "yarn"
)

// Rope describes partial NeoX rotary embedding. The first Dim entries of each head rotate
// in the pairs (j, j + Dim/2); the others stay as they are.
//
//	angle(p, j)     = p · InverseFrequencies()[j]             float64
//	out[j]          = x[j]·cos − x[j + Dim/2]·sin
//	out[j + Dim/2]  = x[j + Dim/2]·cos + x[j]·sin
//	cos, sin        = AttentionFactor·cos(angle), AttentionFactor·sin(angle), rounded once to float32
//
// Angles are float64 because a float32 product is off by about 0.1 rad near a million
// positions. A Rope is plain data: copy it freely, use it from any goroutine. Its methods
// expect the values of a checked config.
type Rope struct {
	// Theta is the base of the frequencies (rope_theta).
	Theta float64
	// Dim is the rotated width of a head (rotary_dim), even.
	Dim int
	// Type is the rule that makes frequencies from a base and a width, spelled as the
	// rope_type of a Hugging Face config. The rules other than "default" use some of the
	// fields below MaxPosition.
	//
	//	"default" or ""  plain RoPE
	//	"linear"         position interpolation: positions are divided by Factor
	//	"yarn"           YaRN interpolates slow dimensions and keeps fast ones (arXiv:2309.00071)
	Type string
	// MaxPosition is max_position_embeddings, in positions.
	MaxPosition int
	// Factor stretches the position range (linear, yarn).
	Factor float64
	// OriginalMaxPosition is the range before stretching (yarn).
	OriginalMaxPosition int
	// BetaFast and BetaSlow are numbers of rotations over OriginalMaxPosition. A dimension
	// with more than BetaFast keeps its frequency; one with fewer than BetaSlow is fully
	// interpolated (yarn).
	BetaFast, BetaSlow float64
	// AttentionFactor multiplies cos and sin; 1 for plain and linear. YaRN's default,
	// 0.1·ln(Factor) + 1, offsets the flatter attention of a stretched range.
	AttentionFactor float64
}

// InverseFrequencies returns the Dim/2 angles per position, in radians. With
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
// YaRNScalingRotaryEmbedding in vLLM. Both compute in float32; InverseFrequencies computes
// in float64.
func (r Rope) InverseFrequencies() []float64 {
	frequencies := make([]float64, r.Dim/2)
	for j := range frequencies {
		frequencies[j] = math.Pow(r.Theta, -2*float64(j)/float64(r.Dim))
	}
	switch r.Type {
	case ropeLinear:
		for j := range frequencies {
			frequencies[j] /= r.Factor
		}
	case ropeYaRN:
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
func (r Rope) correctionRange() (low, high float64) {
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
func (r Rope) Positions() int {
	positions := float64(r.MaxPosition)
	switch r.Type {
	case ropeLinear:
		positions = math.Ceil(positions * r.Factor)
	case ropeYaRN:
		positions = max(positions, math.Ceil(float64(r.OriginalMaxPosition)*r.Factor))
	}
	if positions > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(positions)
}

// check refuses fields that describe no rotation of heads of the given width.
func (r *Rope) check(refuse func(bad bool, field string, got any, want string), width int) {
	positive := func(x float64) bool { return x > 0 && !math.IsInf(x, 1) }
	refuse(!slices.Contains([]string{"", ropeDefault, ropeLinear, ropeYaRN}, r.Type), "Rope.Type", r.Type, `"default", "linear" or "yarn"`)
	refuse(r.Dim < 0 || r.Dim%2 != 0, "Rope.Dim", r.Dim, "an even number, at least 0")
	refuse(r.Dim > width, "Rope.Dim", r.Dim, "at most HeadDim and IndexDim")
	refuse(r.Dim > 0 && !positive(r.Theta), "Rope.Theta", r.Theta, "a finite number above 0")
	refuse(r.Dim > 0 && !positive(r.AttentionFactor), "Rope.AttentionFactor", r.AttentionFactor, "a finite number above 0")
	refuse(r.Positions() < 1, "Rope.MaxPosition", r.MaxPosition, "at least one position")
}
