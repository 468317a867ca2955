package hip

import "sync"

const leastSIMD = SIMDNEON // that has vectors

// bestSIMD returns the highest level that the system says the processor has.
var bestSIMD = sync.OnceValue(func() SIMD {
	if hasBF16() {
		return SIMDNEONBF16
	}
	return SIMDNEON
})
