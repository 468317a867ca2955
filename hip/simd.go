package hip

import "fmt"

// SIMD is a level of vector instructions that the host's kernel variants may
// use. Each level includes those of the same processors before it. The zero SIMD
// names none.
type SIMD int

const (
	SIMDNone       SIMD = 1 + iota // plain Go
	SIMDAVX2                       // AVX2, FMA and F16C
	SIMDAVX512                     // AVX-512 F, BW, DQ and VL
	SIMDAVX512VBMI                 // permutations of bytes and their products (VNNI) too
	SIMDAVX512BF16                 // dot products of pairs of bfloat16 too
	SIMDAMX                        // bfloat16 tiles too
	SIMDNEON                       // on arm64: what every such processor has
	SIMDNEONBF16                   // dot products and products of matrices of bfloat16 too
)

var simdNames = [...]string{
	SIMDNone: "plain Go", SIMDAVX2: "AVX2",
	SIMDAVX512: "AVX-512", SIMDAVX512VBMI: "AVX-512 VBMI", SIMDAVX512BF16: "AVX-512 BF16", SIMDAMX: "AMX",
	SIMDNEON: "NEON", SIMDNEONBF16: "NEON BF16",
}

// String returns the name of the level, such as "AVX-512".
func (s SIMD) String() string {
	if s < SIMDNone || int(s) >= len(simdNames) {
		return fmt.Sprintf("SIMD(%d)", int(s))
	}
	return simdNames[s]
}

// rounds reports whether a host of a level rounds activations so. As two bfloat16 arm64
// would multiply a row no faster than an exact one.
func (s SIMD) rounds(a Activations) bool {
	return s == SIMDAVX512BF16 || s == SIMDAMX || s == SIMDNEONBF16 && a == ActivationsBF16
}

// rounding is how a host of a level rounds that is asked for a.
func (s SIMD) rounding(a Activations) Activations {
	if s.rounds(a) {
		return a
	}
	return ActivationsExact
}

// SIMDLevels returns the levels of this machine, from SIMDNone up.
func SIMDLevels() []SIMD {
	levels := []SIMD{SIMDNone}
	for s := leastSIMD; s <= bestSIMD(); s++ {
		levels = append(levels, s)
	}
	return levels
}

// boundedSIMD returns the highest level of this machine that is at most bound.
func boundedSIMD(bound SIMD) SIMD {
	levels := SIMDLevels()
	for len(levels) > 1 && levels[len(levels)-1] > bound {
		levels = levels[:len(levels)-1]
	}
	return levels[len(levels)-1]
}
