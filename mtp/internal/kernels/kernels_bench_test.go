package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// BenchmarkGreedy picks tokens of the released vocabulary, and of a small one.
func BenchmarkGreedy(b *testing.B) {
	for _, vocab := range []int{32768, 200064} {
		for _, rows := range []int{1, 16} {
			b.Run(fmt.Sprintf("vocab=%d/rows=%d", vocab, rows), func(b *testing.B) {
				d := hip.NewHost()
				defer d.Close()
				random := rand.New(rand.NewPCG(1, 4))
				logits := make([]float32, rows*vocab)
				for i := range logits {
					logits[i] = float32(3 * random.NormFloat64())
				}
				in, err := hip.Upload(d, logits)
				require.NoError(b, err)
				out, err := d.Alloc(4 * int64(2*rows))
				require.NoError(b, err)
				var top TopK
				require.NoError(b, top.Grow(d, rows, vocab, 1))
				b.SetBytes(int64(4 * len(logits)))
				for b.Loop() {
					picked := Picked{IDs: out, Probabilities: out.Add(4 * int64(rows))}
					if err := top.Pick(d, picked, in, 0, rows, vocab, 1); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkEmbedNorm is at the released width, with a bfloat16 table.
func BenchmarkEmbedNorm(b *testing.B) {
	const hidden, vocab = 6144, 1000
	for _, rows := range []int{1, 16, 512} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			d := hip.NewHost()
			defer d.Close()
			floats := func(n int) hip.Ptr {
				values := make([]float32, n)
				for i := range values {
					values[i] = float32(i%100) / 100
				}
				p, err := hip.Upload(d, values)
				require.NoError(b, err)
				return p
			}
			table, err := hip.Upload(d, make([]hip.BF16, vocab*hidden))
			require.NoError(b, err)
			m, err := weights.NewMatrix(d, hidden, []weights.Segment{weights.DenseSegment(weights.BF16, vocab, hidden, table, 0)})
			require.NoError(b, err)
			ones := make([]int32, rows)
			for i := range ones {
				ones[i] = int32(i + 1)
			}
			tokens, err := hip.Upload(d, ones)
			require.NoError(b, err)
			a := &EmbedNormArgs{
				Out: floats(2 * rows * hidden), States: floats(rows * hidden), Tokens: tokens, Positions: tokens,
				EmbedNorm: floats(hidden), HiddenNorm: floats(hidden), Eps: 1e-6, Rows: int32(rows), Hidden: hidden, Vocab: vocab,
			}
			b.SetBytes(int64(rows) * hidden * 24)
			for b.Loop() {
				if err := EmbedNorm(d, m, a); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
