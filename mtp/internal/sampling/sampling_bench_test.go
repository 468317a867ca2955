package sampling

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// BenchmarkSampling draws a draft, and verifies a chain of 4, from the released vocabulary, on
// the CPU and on the first GPU if there is one:
//
//	go test ./mtp/internal/sampling -run '^$' -bench Sampling
func BenchmarkSampling(b *testing.B) {
	b.Run("cpu", func(b *testing.B) { benchmarkSampling(b, hip.NewHost()) })
	b.Run("gpu", func(b *testing.B) {
		d, err := hip.Open(0)
		if errors.Is(err, hip.ErrNoDevice) {
			b.Skip(err)
		}
		require.NoError(b, err)
		benchmarkSampling(b, d)
	})
}

func benchmarkSampling(b *testing.B, d hip.Device) {
	const vocab, drafts = 200064, 4
	random := rand.New(rand.NewPCG(7, 2))
	logits := make([]float32, (drafts+1)*vocab)
	for i := range logits {
		logits[i] = float32(3 * random.NormFloat64())
	}
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	in := upload(b, d, logits)
	for _, q := range []Params{{Temperature: 0.7}, {Temperature: 0.7, TopK: 50, TopP: 0.9}} {
		var s Sampler
		b.Run(fmt.Sprintf("list/top-k=%d", q.TopK), func(b *testing.B) {
			require.NoError(b, s.GrowList(d, 1, vocab))
			out := Listed{
				IDs: upload(b, d, []int32{0}), Probabilities: upload(b, d, []float32{0.1}), Counts: upload(b, d, []int32{0}),
				ListIDs: upload(b, d, make([]int32, MaxList)), ListWeights: upload(b, d, make([]float32, MaxList)),
			}
			params := upload(b, d, []Params{q})
			for b.Loop() {
				require.NoError(b, s.List(d, out, in, 0, params, 1, vocab, MaxList))
				require.NoError(b, d.Sync())
			}
		})
		b.Run(fmt.Sprintf("verify/top-k=%d", q.TopK), func(b *testing.B) {
			require.NoError(b, s.GrowVerify(d, drafts+1, vocab, 1))
			params := make([]Params, drafts+1)
			for i := range params {
				params[i] = q
			}
			c := &Chains{
				Params: upload(b, d, params), First: upload(b, d, []int32{0, drafts + 1}), Block: upload(b, d, []int32{0}),
				Tokens: upload(b, d, make([]int32, drafts)), ListAt: upload(b, d, []int32{0, 1, 2, 3, 4}),
				ListIDs: upload(b, d, make([]int32, drafts)), ListWeights: upload(b, d, []float32{1, 1, 1, 1}),
				Accepted: upload(b, d, []int32{0}), Next: upload(b, d, []int32{0}), Rows: drafts + 1, Chains: 1, Listed: drafts,
			}
			work, err := d.Alloc(int64(4 * len(logits)))
			require.NoError(b, err)
			b.Cleanup(func() { _ = d.Free(work) })
			for b.Loop() {
				require.NoError(b, d.Copy(work, in, int64(4*len(logits))))
				require.NoError(b, s.Verify(d, c, work, vocab))
				require.NoError(b, d.Sync())
			}
		})
		require.NoError(b, s.Free(d))
	}
}
