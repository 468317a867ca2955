package moe

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// runRoute routes rows of logits.
func runRoute(t *testing.T, d hip.Device, logits, bias []float32, k int, scale float64) (scores, w []float32, ids []int32) {
	t.Helper()
	experts := len(bias)
	rows := len(logits) / experts
	a := routeArgs{
		Logits: upload(t, d, logits), Bias: upload(t, d, bias),
		Scores: alloc(t, d, rows*experts), IDs: alloc(t, d, rows*k), Weights: alloc(t, d, rows*k),
		Scale: scale, Experts: int32(experts), TopK: int32(k),
	}
	require.NoError(t, launchRoute(d, rows, &a))
	return read[float32](t, d, a.Scores, rows*experts), read[float32](t, d, a.Weights, rows*k), read[int32](t, d, a.IDs, rows*k)
}

func TestRoutePicks(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name         string
		logits, bias []float32
		ids          []int32
	}{
		{"largest first", []float32{1, 3, 2, 0}, make([]float32, 4), []int32{1, 2, 0}},
		{"all", []float32{1, 3, 2}, make([]float32, 3), []int32{1, 2, 0}},
		{"ties to the lower expert", []float32{0, 5, 5, 0, 5}, make([]float32, 5), []int32{1, 2, 4}},
		{"all tied", make([]float32, 6), make([]float32, 6), []int32{0, 1, 2}},
		{"the bias selects", []float32{9, 8, -9, 7}, []float32{0, 0, 2, 0}, []int32{2, 0, 1}},
		{"a negative bias", []float32{9, 8, 7, 6}, []float32{-1, 0, -1, 0}, []int32{1, 3, 0}},
		{"scores that round alike tie", []float32{40, 60, 50, 0}, make([]float32, 4), []int32{0, 1, 2}},
		{"no tie beside a large bias", []float32{0, 1e-5, 2e-5, 0}, []float32{1e6, 1e6, 1e6, 1e6}, []int32{2, 1, 0}},
		{"NaN is not picked", []float32{nan, 1, nan, 2, 3}, make([]float32, 5), []int32{4, 3, 1}},
		{"NaN fills up", []float32{nan, nan, -50, nan}, make([]float32, 4), []int32{2, 0, 1}},
		{"NaN only", []float32{nan, nan, nan, nan}, make([]float32, 4), []int32{0, 1, 2}},
		{"NaN bias", []float32{1, 1, 1, 1}, []float32{nan, 0, 0, nan}, []int32{1, 2, 0}},
		{"NaN below -Inf", []float32{nan, 1, 1, 1}, []float32{0, -inf, -inf, 0}, []int32{3, 1, 2}},
		{"infinities", []float32{-inf, inf, 0, inf}, make([]float32, 4), []int32{1, 3, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d hip.Device) {
				_, _, ids := runRoute(t, d, c.logits, c.bias, 3, 1)
				require.Equal(t, c.ids, ids)
			})
		})
	}
}

func TestRouteWeights(t *testing.T) {
	ln := func(odds float64) float32 { return float32(math.Log(odds)) }
	for _, c := range []struct {
		name   string
		logits []float32
		bias   []float32
		k      int
		scale  float64
		want   []float64 // by descending s + bias
	}{
		{"equal scores share the scale", []float32{0, 0, -9}, make([]float32, 3), 2, 2, []float64{1, 1}},
		{"one pick takes it all", []float32{-3, 2}, make([]float32, 2), 1, 2.5, []float64{2.5}},
		{"in proportion: 3/4 and 1/4", []float32{ln(1. / 3), ln(3)}, make([]float32, 2), 2, 1, []float64{0.75, 0.25}},
		{"the bias does not weigh", []float32{ln(1. / 3), ln(3)}, []float32{100, 0}, 2, 1, []float64{0.25, 0.75}},
		{"negative scale", []float32{1, 1}, make([]float32, 2), 2, -4, []float64{-2, -2}},
		{"scores of zero", []float32{-200, -300, -400}, make([]float32, 3), 2, 1, []float64{math.NaN(), math.NaN()}},
		{"NaN", []float32{float32(math.NaN()), 1}, make([]float32, 2), 2, 1, []float64{math.NaN(), math.NaN()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onEach(t, func(t *testing.T, d hip.Device) {
				_, w, _ := runRoute(t, d, c.logits, c.bias, c.k, c.scale)
				for k, want := range c.want {
					if math.IsNaN(want) {
						require.True(t, math.IsNaN(float64(w[k])), "weight %d is %v", k, w[k])
						continue
					}
					require.InDelta(t, want, float64(w[k]), 1e-6)
				}
			})
		})
	}
}

// TestRouteProperties: for all numbers of experts and picks, ids are those of a
// full stable sort, distinct, and the weights of a row sum to the scale.
func TestRouteProperties(t *testing.T) {
	const rows, scale = 17, 2.5
	onEach(t, func(t *testing.T, d hip.Device) {
		for experts := 1; experts <= 16; experts++ {
			rng := rand.New(rand.NewPCG(3, uint64(experts)))
			logits, bias := make([]float32, rows*experts), make([]float32, experts)
			for i := range logits {
				logits[i] = float32(rng.IntN(9) - 4) // with many ties
			}
			for e := range bias {
				bias[e] = float32(rng.IntN(3)) / 4
			}
			for k := 1; k <= experts; k++ {
				scores, w, ids := runRoute(t, d, logits, bias, k, scale)
				for row := range rows {
					s := scores[row*experts : (row+1)*experts]
					want := make([]int32, experts)
					for e := range want {
						want[e] = int32(e)
					}
					sort.SliceStable(want, func(i, j int) bool { return s[want[i]]+bias[want[i]] > s[want[j]]+bias[want[j]] })
					require.Equal(t, want[:k], ids[row*k:(row+1)*k], "experts %d, k %d, row %d", experts, k, row)
					sum := 0.0
					for _, v := range w[row*k : (row+1)*k] {
						sum += float64(v)
					}
					require.InDelta(t, scale, sum, 1e-6)
				}
			}
		}
	})
}

// FuzzPickLargest: any bits give distinct valid ids in a sorted order.
func FuzzPickLargest(f *testing.F) {
	f.Add(uint64(1), 4, uint8(0))
	f.Add(uint64(2), 128, uint8(200))
	f.Fuzz(func(t *testing.T, seed uint64, k int, nans uint8) {
		rng := rand.New(rand.NewPCG(seed, 0))
		experts := 1 + rng.IntN(140)
		k = 1 + int(uint(k)%uint(experts))
		s, bias := make([]float32, experts), make([]float32, experts)
		for e := range s {
			s[e] = math.Float32frombits(rng.Uint32())
			if uint8(rng.Uint32()) < nans {
				s[e] = float32(math.NaN())
			}
			bias[e] = math.Float32frombits(rng.Uint32())
		}
		ids := make([]int32, k)
		pickLargest(ids, make([]float64, k), s, bias)
		key := func(e int32) float64 { return float64(s[e]) + float64(bias[e]) }
		for i := 1; i < k; i++ {
			a, b := ids[i-1], ids[i]
			require.True(t, above(key(a), key(b)) || !above(key(b), key(a)) && a < b, "%d before %d", a, b)
		}
		for e := range int32(experts) {
			if !slices.Contains(ids, e) {
				require.False(t, above(key(e), key(ids[k-1])), "expert %d is left out", e)
			}
		}
		slices.Sort(ids)
		require.Len(t, slices.Compact(ids), k)
		require.True(t, ids[0] >= 0 && int(ids[k-1]) < experts, fmt.Sprint(ids))
	})
}
