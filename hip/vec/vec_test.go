package vec

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// forEachLevel runs f for each level of vector instructions of the machine.
func forEachLevel(t *testing.T, f func(t *testing.T, simd hip.SIMD)) {
	for _, simd := range hip.SIMDLevels() {
		t.Run(simd.String(), func(t *testing.T) { f(t, simd) })
	}
}

// guarded returns random values with nothing after them.
func guarded(t *testing.T, seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	values := hiptest.Guarded[float32](t, n)
	for i := range values {
		values[i] = float32(r.NormFloat64())
	}
	return values
}

var lengths = []int{1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 79, 80, 81, 127, 128, 129, 256, 6144, 6151}

var inf, nan = float32(math.Inf(1)), float32(math.NaN())
