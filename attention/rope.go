package attention

import (
	"fmt"
	"math"
)

// Rope describes partial NeoX rotary embedding. With D = 2·len(Frequencies) the first D
// entries of each head rotate in the pairs (j, j + D/2); the others stay as they are.
//
//	angle(p, j)   = p · Frequencies[j]                        float64
//	out[j]        = x[j]·cos − x[j + D/2]·sin
//	out[j + D/2]  = x[j + D/2]·cos + x[j]·sin
//	cos, sin      = AttentionFactor·cos(angle), AttentionFactor·sin(angle), rounded once to float32
//
// Angles are float64 because a float32 product is off by about 0.1 rad near a million
// positions.
type Rope struct {
	// Frequencies are the angles per position, in radians. Plain RoPE has θ^(−2j/D), with
	// rope_theta as θ and rotary_dim as D; a rule that stretches the range of positions, as
	// linear scaling and YaRN do, has others. None: nothing rotates.
	Frequencies []float64
	// AttentionFactor multiplies cos and sin: 1 but for YaRN, which offsets the flatter
	// attention of a stretched range by it.
	AttentionFactor float64
	// Positions is the number of positions: a valid position p satisfies 0 ≤ p < Positions.
	Positions int
}

// check refuses fields that describe no rotation of heads of the given width.
func (r *Rope) check(refuse func(bad bool, field string, got any, want string), width int) {
	n := len(r.Frequencies)
	refuse(2*n > width, "Rope.Frequencies", fmt.Sprintf("%d angles", n), "at most HeadDim/2 and IndexDim/2")
	for j, f := range r.Frequencies {
		refuse(math.IsNaN(f) || math.IsInf(f, 0), fmt.Sprintf("Rope.Frequencies[%d]", j), f, "a finite number")
	}
	refuse(n > 0 && !(r.AttentionFactor > 0 && !math.IsInf(r.AttentionFactor, 1)), "Rope.AttentionFactor", r.AttentionFactor, "a finite number above 0")
	refuse(r.Positions < 1 || r.Positions > math.MaxInt32, "Rope.Positions", r.Positions, fmt.Sprintf("1 to %d", math.MaxInt32))
}
