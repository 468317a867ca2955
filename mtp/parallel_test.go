package mtp_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// share is what a rank holds of a tensor.
type share struct{ rows, cols [2]int }

func (s share) area() int { return (s.rows[1] - s.rows[0]) * (s.cols[1] - s.cols[0]) }

func (s share) overlaps(o share) bool {
	return s.rows[0] < o.rows[1] && o.rows[0] < s.rows[1] && s.cols[0] < o.cols[1] && o.cols[0] < s.cols[1]
}

// sharesByTensor is how often each share of each tensor is held, over all ranks,
// and the elements of each tensor.
func sharesByTensor(t *testing.T, config *mtp.Config, tp, ep int) (held map[string]map[share]int, size map[string]int) {
	t.Helper()
	held, size = map[string]map[share]int{}, map[string]int{}
	for rank := range tp {
		for expertRank := range ep {
			params, err := config.Parameters(mtp.Shard{Rank: rank, Size: tp}, mtp.Shard{Rank: expertRank, Size: ep})
			require.NoError(t, err)
			for _, p := range params {
				if p.Optional {
					continue
				}
				cols := 0 // of every part
				for _, part := range p.Parts {
					size[part.Tensor] = 1
					for _, n := range part.Shape {
						size[part.Tensor] *= n
					}
					if held[part.Tensor] == nil {
						held[part.Tensor] = map[share]int{}
					}
					s := share{part.KeepRows, part.KeepCols}
					if len(part.Shape) < 2 {
						s.cols = [2]int{0, 1}
					}
					if s.rows[0] < s.rows[1] {
						if cols == 0 {
							cols = s.cols[1] - s.cols[0]
						}
						require.Equal(t, cols, s.cols[1]-s.cols[0])
						held[part.Tensor][s]++
					}
				}
			}
		}
	}
	return held, size
}

// TestParametersOfRanks: over all ranks every element of every tensor is held,
// by equally many ranks, in shares that are equal or do not overlap.
func TestParametersOfRanks(t *testing.T) {
	config := releasedHead(t)
	const layer = "model.mtp.layers.1.transformer_layer."
	for _, c := range []struct{ tp, ep int }{{1, 1}, {2, 1}, {4, 1}, {8, 1}, {1, 2}, {1, 4}, {1, 3}, {2, 4}, {8, 2}} {
		t.Run(fmt.Sprintf("tp=%d/ep=%d", c.tp, c.ep), func(t *testing.T) {
			held, size := sharesByTensor(t, config, c.tp, c.ep)
			require.Len(t, held, len(releasedTensors()))
			copies := map[string]int{} // ranks that hold each element
			for tensor, shares := range held {
				total := 0
				var seen []share
				for s, n := range shares {
					total += s.area()
					for _, other := range seen {
						require.False(t, s.overlaps(other), "%s: %v and %v", tensor, s, other)
					}
					seen = append(seen, s)
					if copies[tensor] == 0 {
						copies[tensor] = n
					}
					require.Equal(t, copies[tensor], n, "%s: a share held more often than others", tensor)
				}
				require.Equal(t, size[tensor], total, "%s: elements held", tensor)
			}
			ranks, experts := c.tp*c.ep, c.tp // an expert is cut by tp, or dealt by ep and then held by all of tp
			if c.ep == 1 {
				experts = 1
			}
			for tensor, want := range map[string]int{
				"model.embed_tokens.weight": c.ep, "lm_head.weight": c.ep, "model.mtp.layers.2.eh_proj.weight": ranks,
				"model.mtp.layers.0.final_layernorm.weight": ranks,
				layer + "self_attn.q_proj.weight":           c.ep, layer + "self_attn.o_proj.weight": c.ep,
				layer + "self_attn.k_proj.weight": c.ep * max(1, c.tp/4), layer + "self_attn.v_proj.weight": c.ep * max(1, c.tp/4),
				layer + "self_attn.index_q_proj.weight": c.ep * max(1, c.tp/4), layer + "self_attn.index_k_proj.weight": ranks,
				layer + "self_attn.q_norm.weight": ranks, layer + "block_sparse_moe.gate.weight": ranks,
				layer + "block_sparse_moe.e_score_correction_bias":         ranks,
				layer + "block_sparse_moe.shared_experts.up_proj.weight":   c.ep,
				layer + "block_sparse_moe.shared_experts.down_proj.weight": c.ep,
				layer + "block_sparse_moe.experts.127.w1.weight":           experts, layer + "block_sparse_moe.experts.0.w2.weight": experts,
			} {
				require.Equal(t, want, copies[tensor], "ranks with an element of %s", tensor)
			}
		})
	}
}

func TestParametersRefuseShares(t *testing.T) {
	config := releasedHead(t)
	for name, c := range map[string]struct {
		tensor, expert mtp.Shard
		want           []string
	}{
		"heads and widths that do not divide": {
			mtp.Shard{Size: 5}, mtp.Shard{},
			[]string{"num_attention_heads", "num_key_value_heads", "intermediate_size", "shared_intermediate_size", "vocab_size", "TensorParallel.Size is 5, want one of 1, 2, 4, 8, 16, 32, 64 for this head"},
		},
		"a rank outside":        {mtp.Shard{Rank: 2, Size: 2}, mtp.Shard{}, []string{"rank 2 of 2"}},
		"two ranks outside":     {mtp.Shard{Rank: -1, Size: 2}, mtp.Shard{Rank: 3, Size: 3}, []string{"rank -1 of 2", "rank 3 of 3"}},
		"a rank of nothing":     {mtp.Shard{}, mtp.Shard{Rank: 1}, []string{"rank 1 of 0"}},
		"a size below nothing":  {mtp.Shard{}, mtp.Shard{Size: -2}, []string{"rank 0 of -2"}},
		"KV heads over 6 ranks": {mtp.Shard{Size: 6}, mtp.Shard{}, []string{"num_key_value_heads"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parameters(c.tensor, c.expert)
			require.ErrorIs(t, err, hip.ErrInput)
			for _, text := range c.want {
				require.ErrorContains(t, err, text)
			}
		})
	}
}

// TestLoadRank: a rank's share loads and can be looked at, and does not run.
func TestLoadRank(t *testing.T) {
	files := synthetic{format: "BF16"}.files(t)
	whole := load(t, files, mtp.Options{})
	for rank := range 2 {
		head := load(t, files, mtp.Options{TensorParallel: mtp.Shard{Rank: rank, Size: 2}})
		const qkv = "model.layers.0.transformer_layer.self_attn.qkv_proj.weight"
		require.Equal(t, (32+16+16+16)/2+8, head.Matrix(qkv).Rows)
		require.Equal(t, 32+16+16+16+8, whole.Matrix(qkv).Rows)
		require.Less(t, head.Report().Bytes, whole.Report().Bytes)
		_, err := head.NewCache(1)
		require.True(t, errors.Is(err, errors.ErrUnsupported) && errors.Is(err, mtp.ErrInput), "%v", err)
		hidden := mtp.Hidden{Float32: make([]float32, hiddenSize)}
		_, _, topErr := head.TopK(t.Context(), hidden, nil, 0, 1)
		_, draftErr := draftOf(t.Context(), head, &mtp.Batch{}, 1)
		for name, err := range map[string]error{
			"Embed":     second(head.Embed(t.Context(), []int32{1})),
			"Forward":   second(head.Forward(t.Context(), &mtp.Batch{}, 0)),
			"Logits":    second(head.Logits(t.Context(), hidden, nil, 0)),
			"FinalNorm": second(head.FinalNorm(t.Context(), hidden, nil, 0)),
			"TopK":      topErr,
			"Draft":     draftErr,
		} {
			require.ErrorIs(t, err, errors.ErrUnsupported, name)
			require.ErrorIs(t, err, mtp.ErrInput, name)
		}
	}
}
