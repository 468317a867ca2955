package weights

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// requireCovered counts, over the ranks of a parallel head, who holds each
// element: exactly the stated number of ranks.
func requireCovered(t *testing.T, h headShape, ranks []Parallel) {
	t.Helper()
	held := make(map[string][]int)
	for _, p := range ranks {
		for _, param := range headOf(t, h, p) {
			for _, part := range param.Parts {
				counts := held[part.Tensor]
				if counts == nil {
					counts = make([]int, part.rows()*part.cols())
					held[part.Tensor] = counts
				}
				for r := part.KeepRows[0]; r < part.KeepRows[1]; r++ {
					for c := part.keepCols()[0]; c < part.keepCols()[1]; c++ {
						counts[r*part.cols()+c]++
					}
				}
			}
		}
	}
	size := len(ranks)
	cut := map[string]int{ // by how many ranks, where not by all
		"model.embed_tokens.weight": 1, attnTensor + "q_proj.weight": 1, attnTensor + "o_proj.weight": 1,
	}
	for _, name := range []string{"k_proj", "v_proj", "index_q_proj"} {
		cut[attnTensor+name+".weight"] = max(1, size/h.kvHeads)
	}
	for e := range h.experts {
		for _, id := range []string{"w1", "w2", "w3"} {
			cut[fmt.Sprintf("%sexperts.%d.%s.weight", moeTensor, e, id)] = 1
		}
	}
	for tensor, counts := range held {
		want := size
		if n, ok := cut[tensor]; ok {
			want = n
		}
		wrong := slices.IndexFunc(counts, func(n int) bool { return n != want })
		require.Negative(t, wrong, "%s: element %d is not held by %d of %d ranks", tensor, wrong, want, size)
	}
}

// TestLoadShares: for random shapes, in every format, the shares that all ranks
// load hold the weights that they should, and together every element.
func TestLoadShares(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 1))
	pick := func(of ...int) int { return of[r.IntN(len(of))] }
	loads, shapes := 0, 18
	if hiptest.RaceDetector {
		shapes = 6
	}
	for i := range shapes {
		f := checkpointFormats[i%len(checkpointFormats)]
		h := headShape{
			hidden: pick(32, 33, 95, 130, 160), heads: pick(4, 8), kvHeads: pick(1, 2, 4),
			headDim: 32, inner: 32 * pick(1, 2, 3, 4, 8), experts: pick(1, 3, 4), vocab: pick(64, 65, 127, 300),
		}
		if f == FP8F32 || f == fp8BF16 { // columns can be cut between blocks of 128, rows anywhere
			h.headDim, h.inner = 128, 128*pick(1, 2)
		}
		whole := headOf(t, h, Parallel{})
		s := synthesize(whole, always(f))
		c := openHead(t, os.DirFS(onDisk(t, s.files(2))))
		for _, size := range []int{1, 2, 3, 4, 8} {
			for _, expertParallel := range []bool{false, true} {
				var ranks []Parallel
				for rank := range size {
					p := Parallel{Tensor: Shard{rank, size}}
					if expertParallel {
						p.Expert = p.Tensor
					}
					if _, err := h.params(p); err != nil {
						require.ErrorIs(t, err, errUncut)
						continue
					}
					ranks = append(ranks, p)
				}
				if len(ranks) == 0 {
					continue // it cannot be cut like this
				}
				require.Len(t, ranks, size, "on every rank alike")
				if !loadRanks(t, c, h, s, ranks) {
					continue
				}
				requireCovered(t, h, ranks)
				loads++
			}
		}
	}
	require.Greater(t, loads, 3*shapes, "few of the shapes could be cut")
}

// loadRanks loads every rank's share and compares it, in place and uploaded. It
// returns false if a share cuts columns inside a scale, which every rank refuses.
func loadRanks(t *testing.T, c *safetensors.Folder, h headShape, s *synthetic, ranks []Parallel) bool {
	t.Helper()
	refused := 0
	for _, p := range ranks {
		params := headOf(t, h, p)
		plan, err := NewPlan(c, params)
		if err != nil {
			require.ErrorIs(t, err, ruleCutBlock)
			for _, problem := range auditOf(t, err) {
				require.Equal(t, ruleCutBlock, problem.Rule, "%v", problem)
			}
			refused++
			continue
		}
		host := hip.NewHost(1)
		for _, d := range []hip.Device{host, bare{host}} {
			l, err := plan.Load(t.Context(), d, false, false, nil)
			require.NoError(t, err)
			requireShare(t, d, l, params, s)
			require.NoError(t, l.Close())
		}
		require.Equal(t, [2]int64{}, inUse(host))
		require.NoError(t, host.Close())
	}
	require.Contains(t, []int{0, len(ranks)}, refused, "on every rank alike")
	return refused == 0
}

// TestLoadCutInsideBlocks holds rows from inside a block of scales to inside
// another, and multiplies with them.
func TestLoadCutInsideBlocks(t *testing.T) {
	h := headShape{hidden: 200, heads: 4, kvHeads: 2, headDim: 96, inner: 128, experts: 3, vocab: 64}
	for _, f := range []Format{FP8F32, fp8BF16} {
		s := synthesize(headOf(t, h, Parallel{}), always(f))
		c := openHead(t, inMap(s.files(1)))
		params := headOf(t, h, Parallel{})
		qkv := &params[3]
		qkv.Parts[0].KeepRows, qkv.Parts[1].KeepRows = interval{96, 288}, interval{127, 129}
		qkv.Parts[2].KeepRows, qkv.Parts[3].KeepRows = interval{128, 192}, interval{191, 192}
		plan, err := NewPlan(c, params)
		require.NoError(t, err)
		d := hip.Check(hip.NewHost())
		l, err := plan.Load(t.Context(), d, false, false, nil)
		require.NoError(t, err)
		requireShare(t, d, l, params, s)
		m := l.Matrix(qkv.Name)
		require.Equal(t, []int32{96, 127, 0, 63, 0}, []int32{
			m.segments[0].scaleRow, m.segments[1].scaleRow, m.segments[2].scaleRow, m.segments[3].scaleRow, m.segments[4].scaleRow})
		a := &arena{d: d}
		x, y := a.floats(randomFloats(rand.New(rand.NewPCG(8, 2)), 200)), a.floats(make([]float32, m.Rows))
		require.NoError(t, a.err)
		require.NoError(t, m.Product(d, y, x, 1))
		require.NoError(t, l.Close())
		require.NoError(t, a.free())
		require.NoError(t, d.Close())
	}
}
