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

// randomLogits is rows of logits with ties, of which some are −∞.
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

// verified is what Verify gives.
type verified struct {
	accepted, next []int32
	chances        []float64
}

// chain is drafts with the lists that they were drawn from, and parameters of every row.
type chain struct {
	block   bool
	tokens  []int32
	ids     [][]int32
	weights [][]float32
	params  []Params
}

// runVerify verifies chains, whose rows of logits lie end to end.
func runVerify(t testing.TB, d hip.Device, logits []float32, vocab int, chains []chain) (v verified) {
	t.Helper()
	var first, block, tokens, listAt, ids []int32
	var weights []float32
	var params []Params
	for _, c := range chains {
		if first, block = append(first, int32(len(params))), append(block, 0); c.block {
			block[len(block)-1] = 1
		}
		params, tokens = append(params, c.params...), append(tokens, c.tokens...)
		for j := range c.tokens {
			listAt = append(listAt, int32(len(ids)))
			ids, weights = append(ids, c.ids[j]...), append(weights, c.weights[j]...)
		}
	}
	rows, n := len(params), len(chains)
	first, listAt = append(first, int32(rows)), append(listAt, int32(len(ids)))
	var s Sampler
	require.NoError(t, s.GrowVerify(d, rows, vocab, n))
	defer func() { require.NoError(t, s.Free(d)) }()
	require.NoError(t, hip.WriteOf(d, s.chances.Ptr(), make([]float64, rows)))
	of := &Chains{
		Params: upload(t, d, params), First: upload(t, d, first), Block: upload(t, d, block), Tokens: upload(t, d, tokens),
		ListAt: upload(t, d, listAt), ListIDs: upload(t, d, ids), ListWeights: upload(t, d, weights),
		Accepted: upload(t, d, make([]int32, n)), Next: upload(t, d, make([]int32, n)), Rows: rows, Chains: n, Listed: len(ids),
	}
	require.NoError(t, s.Verify(d, of, upload(t, d, logits), vocab))
	v.accepted, v.next = download[int32](t, d, of.Accepted, n), download[int32](t, d, of.Next, n)
	v.chances = download[float64](t, d, s.chances.Ptr(), rows-n)
	return v
}

// TestDevicesVerifyAlike: the decisions of a batch are those of the reference, on every
// device and for each chain alone.
func TestDevicesVerifyAlike(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 2))
	for _, vocab := range []int{7, 256, 2*part + 1} {
		var chains []chain
		var logits []float32
		for n := range 12 {
			c := chain{block: n%2 == 0}
			for j := range n%4 + 1 {
				p := Params{Temperature: 0.5 + random.Float64(), Seed: uint64(n), Stream: 9, First: 100, Index: uint32(j)}
				switch n % 5 {
				case 1:
					p.TopK = 4
				case 2:
					p.TopP, p.MinP = 0.8, 0.001
				case 3:
					p.Temperature = 0
				}
				c.params = append(c.params, p)
				logits = append(logits, randomLogits(random, vocab)...)
			}
			for range n % 4 {
				var ids []int32
				var weights []float32
				for id := random.IntN(3); id < vocab && len(ids) < MaxList; id += 1 + random.IntN(3) {
					ids, weights = append(ids, int32(id)), append(weights, random.Float32()+1e-6)
				}
				at := random.IntN(len(ids))
				c.tokens = append(c.tokens, ids[at])
				if n%3 == 0 {
					ids, weights = ids[at:at+1], weights[at:at+1]
				}
				c.ids, c.weights = append(c.ids, ids), append(c.weights, weights)
			}
			chains = append(chains, c)
		}
		logits[(len(chains[0].params)+1)*vocab-1] = nan // of the second chain
		t.Run(fmt.Sprint(vocab), func(t *testing.T) {
			d := hip.NewReference()
			defer d.Close()
			want, row, draft := runVerify(t, d, logits, vocab, chains), 0, 0
			require.Equal(t, []int32{-1, -1}, []int32{want.accepted[1], want.next[1]})
			for i, c := range chains {
				alone := runVerify(t, d, logits[row*vocab:(row+len(c.params))*vocab], vocab, chains[i:i+1])
				require.Equal(t, []int32{want.accepted[i], want.next[i]}, []int32{alone.accepted[0], alone.next[0]})
				require.Equal(t, want.chances[draft:draft+len(c.tokens)], alone.chances)
				row, draft = row+len(c.params), draft+len(c.tokens)
			}
			onDevices(t, func(t *testing.T, d hip.Device) { require.Equal(t, want, runVerify(t, d, logits, vocab, chains)) })
		})
	}
}

// TestAllow: tokens that a mask excludes, by their own ids, and no others.
func TestAllow(t *testing.T) {
	const vocab, words = part + 3, 400
	logits := make([]float32, 3*vocab)
	for i := range logits {
		logits[i] = float32(i)
	}
	var tokens []int32
	for i := range vocab {
		tokens = append(tokens, int32(3*i))
	}
	masks := make([]uint32, 2*words)
	random := rand.New(rand.NewPCG(5, 2))
	for i := range masks {
		masks[i] = random.Uint32()
	}
	rows := []int32{2, 0}
	for _, probabilities := range []bool{false, true} {
		onDevices(t, func(t *testing.T, d hip.Device) {
			p := upload(t, d, logits)
			require.NoError(t, Allow(d, p, upload(t, d, masks), upload(t, d, rows), upload(t, d, tokens), 3, 2, vocab, words, probabilities))
			got := download[float32](t, d, p, len(logits))
			require.Equal(t, logits[vocab:2*vocab], got[vocab:2*vocab], "no mask")
			for m, row := range rows {
				for i := range vocab {
					want, token := logits[int(row)*vocab+i], 3*i
					if masks[m*words+token/32]>>(token%32)&1 == 0 {
						if want = -inf; probabilities {
							want = 0
						}
					}
					require.Equal(t, want, got[int(row)*vocab+i])
				}
			}
		})
	}
}
