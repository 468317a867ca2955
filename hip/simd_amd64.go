package hip

import (
	"sync"

	x86 "golang.org/x/sys/cpu"
)

//go:generate go run ./internal/asmgen hip

const leastSIMD = SIMDAVX2 // that has vectors

// bestSIMD returns the highest level whose instructions, and those of all levels
// below, the processor and the operating system offer.
var bestSIMD = sync.OnceValue(func() SIMD {
	x := &x86.X86
	switch {
	case !x.HasAVX2 || !x.HasFMA || !hasF16C():
		return SIMDNone
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512DQ || !x.HasAVX512VL:
		return SIMDAVX2
	case !x.HasAVX512VBMI || !x.HasAVX512VNNI:
		return SIMDAVX512
	case !x.HasAVX512BF16:
		return SIMDAVX512VBMI
	case !x.HasAMXTile || !x.HasAMXBF16 || !requestTiles():
		return SIMDAVX512BF16
	}
	return SIMDAMX
})

// hasF16C reports whether the processor widens half precision. Package cpu of x/sys does
// not say.
func hasF16C() bool {
	_, _, c, _ := cpuid(1, 0)
	return c>>29&1 != 0
}
