package attention

import "math"

// RopeType names a rule that turns a base and a width into rotary frequencies,
// spelled as the rope_type of a Hugging Face config.
type RopeType string

const (
	// RopeDefault is plain RoPE.
	RopeDefault RopeType = "default"
	// RopeLinear is position interpolation: positions are divided by a factor.
	RopeLinear RopeType = "linear"
	// RopeYaRN interpolates the slow dimensions and keeps the fast ones (arXiv:2309.00071).
	RopeYaRN RopeType = "yarn"
)

// Rope describes partial NeoX rotary embedding: of each head the first Dim
// entries rotate in the pairs (j, j + Dim/2), the rest pass through.
//
//	angle(p, j)     = p · InverseFrequencies()[j]             float64
//	out[j]          = x[j]·cos − x[j + Dim/2]·sin
//	out[j + Dim/2]  = x[j + Dim/2]·cos + x[j]·sin
//	cos, sin        = AttentionFactor·cos(angle), AttentionFactor·sin(angle), rounded once to float32
//
// Angles are formed in float64 because a float32 product is off by about
// 0.1 rad near a million positions. A Rope is plain data: copy it freely, use
// it from any goroutine. Its methods expect the values a checked config gives.
type Rope struct {
	// Theta is the base of the frequencies (rope_theta).
	Theta float64
	// Dim is the rotated width of a head (rotary_dim), even.
	Dim int
	// Type selects the rule; the fields below the next one serve only some rules.
	Type RopeType
	// MaxPosition is max_position_embeddings, in positions.
	MaxPosition int
	// Factor stretches the position range (linear, yarn).
	Factor float64
	// OriginalMaxPosition is the range before stretching (yarn).
	OriginalMaxPosition int
	// BetaFast and BetaSlow are the rotations over OriginalMaxPosition above
	// which a dimension keeps its frequency, and below which it is
	// interpolated fully (yarn).
	BetaFast, BetaSlow float64
	// AttentionFactor multiplies cos and sin; 1 for plain and linear.
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
// These are the formulas of _compute_yarn_parameters in Hugging Face
// transformers and of YaRNScalingRotaryEmbedding in vLLM, which compute them in
// float32; here they stay float64.
func (r Rope) InverseFrequencies() []float64 {
	frequencies := make([]float64, r.Dim/2)
	for j := range frequencies {
		frequencies[j] = math.Pow(r.Theta, -2*float64(j)/float64(r.Dim))
	}
	switch r.Type {
	case RopeLinear:
		for j := range frequencies {
			frequencies[j] /= r.Factor
		}
	case RopeYaRN:
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

// Positions returns how many positions are covered: a valid position p
// satisfies 0 <= p < Positions(). The ranges are those of vLLM's cos/sin cache:
//
//	default  MaxPosition
//	linear   ⌈MaxPosition · Factor⌉
//	yarn     max(MaxPosition, ⌈OriginalMaxPosition · Factor⌉)
//
// A range beyond math.MaxInt32 is reported as math.MaxInt32, since positions
// are int32 in the kernels.
func (r Rope) Positions() int {
	positions := float64(r.MaxPosition)
	switch r.Type {
	case RopeLinear:
		positions = math.Ceil(positions * r.Factor)
	case RopeYaRN:
		positions = max(positions, math.Ceil(float64(r.OriginalMaxPosition)*r.Factor))
	}
	if positions > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(positions)
}

// YaRNMagnitude returns get_mscale(factor, mscale) of the YaRN code, the growth
// of cos and sin that offsets the flatter attention of a stretched range:
//
//	0.1·mscale·ln(factor) + 1, and 1 for factor <= 1
//
// The default AttentionFactor is YaRNMagnitude(factor, 1).
func YaRNMagnitude(factor, mscale float64) float64 {
	if factor <= 1 {
		return 1
	}
	return 0.1*mscale*math.Log(factor) + 1
}
