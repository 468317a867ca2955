package vec

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// softmax64 is the formula, in float64.
func softmax64(x []float32, columns int) []float32 {
	out := make([]float32, len(x))
	for c := range columns {
		top, total := math.Inf(-1), 0.0
		for i := c; i < len(x); i += columns {
			top = max(top, float64(x[i]))
		}
		for i := c; i < len(x); i += columns {
			total += math.Exp(float64(x[i]) - top)
		}
		for i := c; i < len(x); i += columns {
			out[i] = float32(math.Exp(float64(x[i])-top) / total)
		}
	}
	return out
}

func TestSoftmax(t *testing.T) {
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, columns := range []int{1, 5, 16, 17} {
			for _, rows := range []int{1, 2, 3, 4, 5, 7, 8, 9, 127, 128, 129, 2048} {
				for _, spread := range []float32{0, 1, 10, 1000} {
					x := guarded(t, uint64(rows), rows*columns)
					for i := range x {
						x[i] *= spread
					}
					want := softmax64(x, columns)
					Softmax(simd, x, columns)
					require.NoError(t, hiptest.Within(x, want, 1e-6), "%d rows of %d, spread %g", rows, columns, spread)
				}
			}
		}
		Softmax(simd, nil, columnsAtOnce)
	})
}

// What is not a number stays in its column, and a weight of nothing is nothing.
func TestSoftmaxOfSpecialValues(t *testing.T) {
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, rows := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9} {
			for row := range rows {
				for _, special := range []float32{nan, inf, -inf, math.MaxFloat32, -math.MaxFloat32, 1e-45, -87, -86, -104, 88} {
					x := guarded(t, 5, rows*columnsAtOnce)
					x[row*columnsAtOnce+3] = special
					want := softmax64(x, columnsAtOnce)
					Softmax(simd, x, columnsAtOnce)
					require.NoError(t, hiptest.Within(x, want, 1e-6), "%g in row %d of %d", special, row, rows)
				}
			}
		}
	})
}

// Every exponent of the result and both sides of each rounding of x·log₂e.
func TestExpOfEveryLevel(t *testing.T) {
	const bound = 0x1p-22
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		if simd == hip.SIMDNone {
			return // math.Exp
		}
		x := guarded(t, 1, 1<<16)
		for i := range x {
			x[i] = -86.5 * float32(i) / float32(len(x)-1)
		}
		got := guarded(t, 2, len(x))
		var top, sum [columnsAtOnce]float32
		columnExpVector(simd, &got[0], columnsAtOnce, &x[0], len(x)/columnsAtOnce, &top, &sum)
		worst := 0.0
		for i, v := range got {
			want := math.Exp(float64(x[i]))
			worst = max(worst, math.Abs(float64(v)-want)/want)
		}
		require.Less(t, worst, bound)
		require.Equal(t, float32(1), got[0])

		small := []float32{-86.50001, -87.4, -104, -1000, -math.MaxFloat32, -inf, 0, 0, nan, nan, 0, 0, 0, 0, 0, 0}
		columnExpVector(simd, &got[0], columnsAtOnce, &small[0], 1, &top, &sum)
		want := []float32{0, 0, 0, 0, 0, 0, 1, 1, nan, nan, 1, 1, 1, 1, 1, 1}
		require.NoError(t, hiptest.Within(got[:columnsAtOnce], want, 0))
		require.NoError(t, hiptest.Within(sum[:], want, 0))
	})
}

func TestLargest(t *testing.T) {
	fill := func(x []float32, v float32) {
		for i := range x {
			x[i] = v
		}
	}
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range lengths[:20] {
			x := guarded(t, 9, n)
			for at := range n {
				for name, test := range map[string]struct {
					rest, value float32
					tie         int // a second one so much later
				}{
					"number":             {0, 1, 0},
					"tie":                {-2, -1, 3},
					"number among NaN":   {nan, -5, 0},
					"infinity":           {1, inf, 1},
					"infinity among NaN": {nan, -inf, 0},
					"one not −Inf":       {-inf, -3, 20},
				} {
					fill(x, test.rest)
					x[at] = test.value
					if at+test.tie < n {
						x[at+test.tie] = test.value
					}
					require.Equal(t, at, Largest(simd, x), "n %d: %s at %d", n, name, at)
				}
			}
			fill(x, nan)
			require.Zero(t, Largest(simd, x), "nothing but NaN")
			fill(x, -inf)
			require.Zero(t, Largest(simd, x), "nothing but −Inf")
			x[0] = float32(math.Copysign(0, -1))
			if n > 1 {
				x[n-1] = 0
			}
			require.Zero(t, Largest(simd, x), "zeros of both signs are equal")
		}
	})
}

func TestExpSum(t *testing.T) {
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range append(lengths, 4096) {
			for _, spread := range []float32{0, 3, 100} {
				x := guarded(t, 4, n)
				top, want := float32(math.Inf(-1)), 0.0
				for i := range x {
					x[i] *= spread
					top = max(top, x[i])
				}
				for _, v := range x {
					want += math.Exp(float64(v) - float64(top))
				}
				require.InEpsilon(t, want, ExpSum(simd, x, top), 1e-6, "n %d, spread %g", n, spread)
				x[n/2] = nan
				require.True(t, math.IsNaN(ExpSum(simd, x, top)), "n %d", n)
			}
		}
	})
}

func BenchmarkSoftmax(b *testing.B) {
	x := make([]float32, 2048*columnsAtOnce)
	for _, simd := range hip.SIMDLevels() {
		b.Run(fmt.Sprint(simd), func(b *testing.B) {
			b.SetBytes(int64(len(x)) * 4)
			for b.Loop() {
				Softmax(simd, x, columnsAtOnce)
			}
		})
	}
}
