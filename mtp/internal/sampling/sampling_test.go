package sampling

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

var (
	inf = float32(math.Inf(1))
	nan = float32(math.NaN())
)

// onDevices runs test on the reference, and on hosts and emulated GPUs checked launch by
// launch.
func onDevices(t *testing.T, test func(t *testing.T, d hip.Device)) {
	devices := []hip.Device{hip.NewReference()}
	for _, d := range hiptest.Hosts(2) {
		devices = append(devices, hip.Check(d))
	}
	for _, d := range devices {
		test(t, d)
		require.NoError(t, d.Close())
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { test(t, hip.Check(d)) })
}

func upload[T any](t testing.TB, d hip.Device, values []T) hip.Ptr {
	t.Helper()
	p, err := hip.Upload(d, values)
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.Free(p) })
	return p
}

func download[T any](t testing.TB, d hip.Device, p hip.Ptr, n int) []T {
	t.Helper()
	values := make([]T, n)
	require.NoError(t, hip.ReadOf(d, values, p))
	return values
}

// random is rows of logits with ties, of which some are −∞.
func randomLogits(random *rand.Rand, n int) []float32 {
	logits := make([]float32, n)
	for i := range logits {
		logits[i] = float32(random.IntN(60)) / 4
		if random.IntN(50) == 0 {
			logits[i] = -inf
		}
	}
	return logits
}

// listed is what List gives.
type listed struct {
	ids, counts, listIDs []int32
	probabilities        []float32
	listWeights          []float32
}

func runList(t testing.TB, d hip.Device, logits []float32, tokens []int32, params []Params, greedy []int32, probabilities []float32, most int) listed {
	t.Helper()
	rows := len(params)
	vocab := len(logits) / rows
	var s Sampler
	require.NoError(t, s.GrowList(d, rows, vocab))
	defer func() { require.NoError(t, s.Free(d)) }()
	out := Listed{
		IDs: upload(t, d, greedy), Probabilities: upload(t, d, probabilities), Counts: upload(t, d, make([]int32, rows)),
		ListIDs: upload(t, d, make([]int32, rows*most)), ListWeights: upload(t, d, make([]float32, rows*most)),
	}
	var of hip.Ptr
	if tokens != nil {
		of = upload(t, d, tokens)
	}
	require.NoError(t, s.List(d, out, upload(t, d, logits), of, upload(t, d, params), rows, vocab, most))
	return listed{
		ids: download[int32](t, d, out.IDs, rows), counts: download[int32](t, d, out.Counts, rows), listIDs: download[int32](t, d, out.ListIDs, rows*most),
		probabilities: download[float32](t, d, out.Probabilities, rows), listWeights: download[float32](t, d, out.ListWeights, rows*most),
	}
}

// TestDevicesAgree: every kernel and its twin, bit for bit, over rows and vocabularies
// around the parts, whatever the filters.
func TestDevicesAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, vocab := range []int{1, 5, 256, part + 1} {
		const rows = 4
		logits := randomLogits(random, rows*vocab)
		params := []Params{
			{Temperature: 0.7, TopK: 3, Seed: 1, First: 7},
			{Temperature: 1, TopP: 0.9, MinP: 0.01, Seed: 1 << 40, Stream: 1 << 50, First: 7, Index: 1},
			{Temperature: 2, TopK: 100, TopP: 0.5, Seed: 3},
			{Temperature: 0, Seed: 4},
		}
		var tokens []int32
		for i := range vocab {
			tokens = append(tokens, int32(3*i))
		}
		t.Run(fmt.Sprint(vocab), func(t *testing.T) {
			var first *listed
			onDevices(t, func(t *testing.T, d hip.Device) {
				got := runList(t, d, logits, tokens, params, make([]int32, rows), []float32{0.5, 0.5, 0.5, 0.5}, min(vocab, MaxList))
				if first == nil {
					first = &got
				}
				require.Equal(t, *first, got)
			})
		})
	}
}
