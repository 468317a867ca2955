package reference

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// syntheticConfig is a head small enough to be made up in a test; %s takes more keys.
const syntheticConfig = `{
	"model_type": "minimax_m3_mtp", "hidden_size": 8, "intermediate_size": 4, "shared_intermediate_size": 6,
	"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "vocab_size": 16,
	"max_position_embeddings": 64, "rms_norm_eps": 1e-06, "use_gemma_norm": true, "rope_theta": 10000,
	"rotary_dim": 2, "hidden_act": "swigluoai", "qk_norm_type": "per_head", "num_local_experts": 3,
	"num_experts_per_tok": 2, "routed_scaling_factor": 2.0, "swiglu_alpha": 1.702, "swiglu_limit": 7.0,
	"num_mtp_modules": 2,
	"sparse_attention_config": {"use_sparse_attention": true, "sparse_index_dim": 4,
		"sparse_num_index_heads": 2, "sparse_topk_blocks": 2, "sparse_block_size": 2, "sparse_local_block": 1}
	%s}`

// stored is a tensor of a synthetic checkpoint.
type stored struct {
	dtype safetensors.Dtype
	shape []int
	data  []byte
}

// f32 stores values as F32.
func f32(values []float32, shape ...int) stored {
	data, _ := binary.Append(nil, binary.LittleEndian, values) // fails for types of no fixed size only
	return stored{"F32", shape, data}
}

// syntheticTensors are random weights for syntheticConfig, the same on every call.
func syntheticTensors() map[string]stored {
	random := rand.New(rand.NewPCG(1, 2))
	tensors := map[string]stored{}
	add := func(name string, shape ...int) {
		size := 1
		for _, n := range shape {
			size *= n
		}
		values := make([]float32, size)
		for i := range values {
			values[i] = float32(random.NormFloat64() / 2)
		}
		tensors[name] = f32(values, shape...)
	}
	add("model.embed_tokens.weight", 16, 8)
	add("lm_head.weight", 16, 8)
	for module := range 2 {
		prefix := fmt.Sprintf("model.mtp.layers.%d.", module)
		layer := prefix + "transformer_layer."
		for _, name := range []string{prefix + "enorm", prefix + "hnorm", prefix + "final_layernorm", layer + "input_layernorm", layer + "post_attention_layernorm"} {
			add(name+".weight", 8)
		}
		add(prefix+"eh_proj.weight", 8, 16)
		attn, moe := layer+"self_attn.", layer+"block_sparse_moe."
		add(attn+"q_proj.weight", 16, 8)
		add(attn+"k_proj.weight", 8, 8)
		add(attn+"v_proj.weight", 8, 8)
		add(attn+"o_proj.weight", 8, 16)
		add(attn+"index_q_proj.weight", 8, 8)
		add(attn+"index_k_proj.weight", 4, 8)
		for _, name := range []string{"q_norm", "k_norm", "index_q_norm", "index_k_norm"} {
			add(attn+name+".weight", 4)
		}
		add(moe+"gate.weight", 3, 8)
		add(moe+"e_score_correction_bias", 3)
		for e := range 3 {
			add(fmt.Sprintf("%sexperts.%d.w1.weight", moe, e), 4, 8)
			add(fmt.Sprintf("%sexperts.%d.w3.weight", moe, e), 4, 8)
			add(fmt.Sprintf("%sexperts.%d.w2.weight", moe, e), 8, 4)
		}
		add(moe+"shared_experts.gate_proj.weight", 6, 8)
		add(moe+"shared_experts.up_proj.weight", 6, 8)
		add(moe+"shared_experts.down_proj.weight", 8, 6)
	}
	return tensors
}

// fileOf is a file of the tensors.
func fileOf(t testing.TB, tensors map[string]stored) []byte {
	t.Helper()
	var list []*safetensors.Tensor
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		tensor := tensors[name]
		list = append(list, safetensors.NewTensor(name, tensor.dtype, tensor.shape, bytes.NewReader(tensor.data)))
	}
	var file bytes.Buffer
	require.NoError(t, safetensors.Write(&file, nil, list))
	return file.Bytes()
}

// checkpoint is a folder with syntheticConfig and tensors; moreConfig is appended to the config's keys.
func checkpoint(t testing.TB, tensors map[string]stored, moreConfig string) fstest.MapFS {
	t.Helper()
	return fstest.MapFS{
		"config.json":       {Data: fmt.Appendf(nil, syntheticConfig, moreConfig)},
		"model.safetensors": {Data: fileOf(t, tensors)},
	}
}

func syntheticHead(t testing.TB, moreConfig string) *Head {
	t.Helper()
	head, err := Load(checkpoint(t, syntheticTensors(), moreConfig))
	require.NoError(t, err)
	return head
}

// syntheticRows are n rows of input for the synthetic head.
func syntheticRows(n int) (tokens, positions []int, hidden mat.Matrix) {
	random := rand.New(rand.NewPCG(3, 4))
	hidden = zeros(n, 8)
	for i := range n {
		tokens, positions = append(tokens, random.IntN(16)), append(positions, i)
		for j := range 8 {
			row(hidden, i)[j] = random.NormFloat64()
		}
	}
	return tokens, positions, hidden
}

// requireEqual compares matrices up to a few units of float64 rounding.
func requireEqual(t testing.TB, want, got mat.Matrix) {
	t.Helper()
	require.Equal(t, want.Shape(), got.Shape())
	a, b := mat.Data[float64](want), mat.Data[float64](got)
	for i := range a {
		require.LessOrEqual(t, math.Abs(a[i]-b[i]), 1e-12*max(1, math.Abs(a[i])), "element %d", i)
	}
}
