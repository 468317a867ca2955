package hip

import (
	"errors"
	"fmt"
)

// SIMD is a level of vector instructions that the host's kernel variants may
// use. Each level includes the ones before it.
type SIMD int

const (
	SIMDBest       SIMD = iota // the highest level of the machine
	SIMDNone                   // plain Go
	SIMDAVX2                   // AVX2, FMA and F16C
	SIMDAVX512                 // AVX-512 F, BW, DQ and VL
	SIMDAVX512VBMI             // byte permutations too
	SIMDAMX                    // bfloat16 tiles too
)

var simdNames = [...]string{
	SIMDBest: "best", SIMDNone: "plain Go", SIMDAVX2: "AVX2",
	SIMDAVX512: "AVX-512", SIMDAVX512VBMI: "AVX-512 VBMI", SIMDAMX: "AMX",
}

func (s SIMD) String() string {
	if s < 0 || int(s) >= len(simdNames) {
		return fmt.Sprintf("SIMD(%d)", int(s))
	}
	return simdNames[s]
}

// ErrSIMD is a level of vector instructions that the machine does not have.
var ErrSIMD = errors.New("vector instructions not available")

// SIMDLevels returns the levels of this machine, from SIMDNone up.
func SIMDLevels() []SIMD {
	levels := []SIMD{SIMDNone}
	for s := SIMDAVX2; s <= bestSIMD(); s++ {
		levels = append(levels, s)
	}
	return levels
}
