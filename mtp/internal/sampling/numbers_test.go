package sampling

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPhilox has the known answers that come with Random123.
func TestPhilox(t *testing.T) {
	ones := ^uint32(0)
	for _, c := range []struct {
		counter [4]uint32
		key     [2]uint32
		want    [4]uint32
	}{
		{want: [4]uint32{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
		{[4]uint32{ones, ones, ones, ones}, [2]uint32{ones, ones}, [4]uint32{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
		{
			[4]uint32{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, [2]uint32{0xa4093822, 0x299f31d0},
			[4]uint32{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
		},
	} {
		require.Equal(t, c.want, philox(c.counter, c.key))
	}
	p := Params{Seed: 1, Stream: 2, First: 3, Index: 4}
	seen := map[uint64]Params{}
	for _, other := range []Params{p, {Seed: 1 << 32, Stream: 2, First: 3, Index: 4}, {Seed: 1, Stream: 2 << 32, First: 3, Index: 4}, {Seed: 1, Stream: 2, First: 4, Index: 4}, {Seed: 1, Stream: 2, First: 3, Index: 5}} {
		for _, purpose := range []uint32{purposeDraft, purposeAccept, purposeNext} {
			seen[other.random(purpose)] = other
		}
	}
	require.Len(t, seen, 15, "each has a counter or key of its own")
}

// TestExp: within a few units in the last place, and 1 at 0.
func TestExp(t *testing.T) {
	for x := -699.9; x < 0; x += 0.0137 {
		require.InEpsilon(t, math.Exp(x), expOf(x), 1e-15)
	}
	require.Equal(t, []float64{1, 0, 0}, []float64{expOf(0), expOf(-701), expOf(math.Inf(-1))})
	require.Zero(t, expOf(math.NaN()))
}

// TestWhole: the largest weight is 2^42, and the least that counts is leastWeight.
func TestWhole(t *testing.T) {
	require.Equal(t, uint64(1)<<42, wholeOf(1))
	require.Equal(t, uint64(1), wholeOf(leastWeight))
	require.Zero(t, wholeOf(math.Nextafter32(leastWeight, 0)))
	require.Equal(t, math.Float32bits(leastWeight), uint32(lowestBits))
	require.Equal(t, math.Float32bits(math.Nextafter32(1, 2)), uint32(aboveBits))
}
