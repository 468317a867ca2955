package sampling

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// keptBySorting returns which of a row's weights the filters keep, by sorting.
func keptBySorting(weights []float32, q Params) []bool {
	kept := make([]bool, len(weights))
	least := math.Max(leastWeight, q.MinP)
	sorted := slices.Clone(weights)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	among := func() []float32 {
		return sorted[:slices.IndexFunc(append(slices.Clone(sorted), -1), func(v float32) bool { return float64(v) < least })]
	}
	if left := among(); q.TopK > 0 && len(left) > int(q.TopK) {
		least = float64(left[q.TopK-1])
	}
	if q.TopP > 0 && q.TopP < 1 {
		sum, part := uint64(0), uint64(0)
		for _, v := range among() {
			sum += wholeOf(v)
		}
		for _, v := range among() {
			if part += wholeOf(v); float64(part) >= math.Floor(float64(sum)*q.TopP) {
				least = float64(v)
				break
			}
		}
	}
	for i, v := range weights {
		kept[i] = float64(v) >= least
	}
	return kept
}

// TestFilters: what the filters keep is what a sort says, ties and all.
func TestFilters(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	for range 400 {
		weights := make([]float32, 1+random.IntN(300))
		for i := range weights {
			weights[i] = float32(math.Exp(-float64(random.IntN(80)) / 8))
			if random.IntN(10) == 0 {
				weights[i] = 0
			}
		}
		weights[random.IntN(len(weights))] = 1
		q := Params{Temperature: 1}
		if random.IntN(2) == 0 {
			q.TopK = int32(random.IntN(40))
		}
		if random.IntN(2) == 0 {
			q.TopP = random.Float64()
		}
		if random.IntN(2) == 0 {
			q.MinP = []float64{random.Float64(), 1, math.Exp(-2)}[random.IntN(3)]
		}
		least := leastOf(weights, &q, 0)
		got := make([]bool, len(weights))
		for i, v := range weights {
			got[i] = v >= least
		}
		require.Equal(t, keptBySorting(weights, q), got, "%+v", q)
	}
}

// TestLists: a list has the most likely tokens, the lowest ids of equal ones, none below
// Least, and the draws follow the weights' shares.
func TestLists(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	logits := []float32{1, 3, 2, 3, 2, 2, -inf, 0}
	tokens := []int32{0, 10, 20, 30, 40, 50, 60, 70}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v - 3))
	}
	ofTop := float32(1 / sum)
	list := func(q Params, most int) listed {
		return runList(t, d, logits, tokens, []Params{q}, []int32{10}, []float32{ofTop}, most)
	}
	got := list(Params{Temperature: 2}, 3)
	require.Equal(t, []int32{10, 20, 30}, got.listIDs, "of three equal ones the lowest")
	require.Equal(t, []float32{1, float32(math.Exp(-0.5)), 1}, got.listWeights)
	got = list(Params{Temperature: 1, Least: float64(ofTop) * 0.9}, 8)
	require.Equal(t, []int32{10, 30, -1, -1, -1, -1, -1, -1}, got.listIDs)
	require.Equal(t, []int32{2}, got.counts)
	got = list(Params{Temperature: 1, Least: float64(ofTop) * 1.1}, 8)
	require.Equal(t, listed{
		ids: []int32{10}, counts: []int32{0}, listIDs: []int32{-1, -1, -1, -1, -1, -1, -1, -1},
		probabilities: []float32{ofTop}, listWeights: make([]float32, 8),
	}, got, "the most likely token stays")
	got = list(Params{Temperature: 1, Flags: FlagGreedy}, 8)
	require.Equal(t, []int32{10}, got.ids)
	require.Equal(t, []int32{0}, got.counts)

	const draws = 4000
	counts := map[int32]int{}
	params, rows := make([]Params, draws), make([]float32, 0, draws*len(logits))
	for n := range params {
		params[n], rows = Params{Temperature: 1, TopK: 2, Seed: 3, First: uint32(n)}, append(rows, logits...)
	}
	got = runList(t, d, rows, tokens, params, slices.Repeat([]int32{10}, draws), slices.Repeat([]float32{ofTop}, draws), len(tokens))
	for n, id := range got.ids {
		at := slices.Index(tokens, id)
		require.InDelta(t, math.Exp(float64(logits[at]-3))/sum, got.probabilities[n], 1e-7)
		counts[id]++
	}
	require.Len(t, counts, 2)
	require.InDelta(t, draws/2, counts[10], 4*math.Sqrt(draws)/2)
}
