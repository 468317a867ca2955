package moe

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// CompareGolden runs one module of a reference checkpoint from its recorded input and
// compares every stage with what is recorded. Its callers are tests outside of the
// package, which can read configs.
func CompareGolden(t *testing.T, c Config, checkpoint *safetensors.Folder, recorded *safetensors.File, module int) {
	m := goldenMixture(t, checkpoint, c, module)
	stages := golden{t, recorded, fmt.Sprintf("l%d.", module)}
	want := stages.outcome(c)
	x, residual := stages.floats("moe_norm_out"), stages.floats("post_attn_residual")
	onEach(t, func(t *testing.T, d hip.Device) {
		requireClose(t, m.forward(t, d, x, residual), want, 1e-5)
	})
	d := hip.NewReference()
	defer func() { require.NoError(t, d.Close()) }()
	for _, ranks := range []struct{ experts, columns int }{{2, 1}, {1, 2}, {1, 4}, {2, 2}} {
		t.Run(fmt.Sprintf("%d × %d ranks", ranks.experts, ranks.columns), func(t *testing.T) {
			requireClose(t, m.forwardRanks(t, d, ranks.experts, ranks.columns, x, residual), want, 1e-5)
		})
	}
}

// goldenMixture stacks the tensors of one module as the loader does.
func goldenMixture(t *testing.T, checkpoint *safetensors.Folder, c Config, module int) *mixture {
	t.Helper()
	find := func(name string) *safetensors.Tensor {
		name = fmt.Sprintf("model.mtp.layers.%d.transformer_layer.block_sparse_moe.%s", module, name)
		tensor, ok := checkpoint.Tensor(name)
		if !ok {
			tensor, ok = checkpoint.Tensor("language_model." + name)
		}
		require.True(t, ok, name)
		return tensor
	}
	stack := func(cols int, names ...string) *stored {
		s := &stored{cols: cols}
		for _, name := range names {
			weight := find(name + ".weight")
			format := map[safetensors.Dtype]weights.Format{
				safetensors.F32: weights.F32, safetensors.BF16: weights.BF16, safetensors.F8E4M3: weights.MXFP8,
			}[weight.Dtype]
			var scale []byte
			if scalesOf(format, 32) > 0 {
				scale = contents(t, find(name+".weight_scale_inv"))
			}
			s.add(format, weight.Shape[0], contents(t, weight), scale)
		}
		return s
	}
	var w13, w2 []string
	for e := range c.Experts {
		w13 = append(w13, fmt.Sprintf("experts.%d.w1", e), fmt.Sprintf("experts.%d.w3", e))
		w2 = append(w2, fmt.Sprintf("experts.%d.w2", e))
	}
	return &mixture{
		config: c,
		gate:   stack(c.Hidden, "gate"),
		w13:    stack(c.Hidden, w13...),
		w2:     stack(c.Intermediate, w2...),
		gateUp: stack(c.Hidden, "shared_experts.gate_proj", "shared_experts.up_proj"),
		down:   stack(c.SharedIntermediate, "shared_experts.down_proj"),
		bias:   floats(t, find("e_score_correction_bias")),
	}
}

// golden reads the stored stages of one module.
type golden struct {
	t      *testing.T
	file   *safetensors.File
	prefix string
}

func (g golden) tensor(name string) *safetensors.Tensor {
	tensor, ok := g.file.Tensor(name)
	require.True(g.t, ok, name)
	return tensor
}

func (g golden) floats(stage string) []float32 { return floats(g.t, g.tensor(g.prefix+stage)) }

// outcome returns the stages of the stored rows; expert ids are there for all rows.
func (g golden) outcome(c Config) outcome {
	o := outcome{
		hidden: g.floats("hidden"), scores: g.floats("router_scores"), weights: g.floats("expert_weights"),
		routed: g.floats("moe_routed_out"), shared: g.floats("shared_out"), moeOut: g.floats("moe_out"),
	}
	ids := values[int32](g.t, g.tensor(g.prefix+"expert_ids"))
	for _, row := range values[int64](g.t, g.tensor("rows")) {
		o.ids = append(o.ids, ids[int(row)*c.TopK:][:c.TopK]...)
	}
	return o
}

func contents(t *testing.T, tensor *safetensors.Tensor) []byte {
	t.Helper()
	data := make([]byte, tensor.Size())
	_, err := tensor.ReadAt(data, 0)
	require.NoError(t, err)
	return data
}

// values reads a tensor whose elements are of type T.
func values[T any](t *testing.T, tensor *safetensors.Tensor) []T {
	t.Helper()
	data := contents(t, tensor)
	out := make([]T, len(data)/binary.Size(*new(T)))
	_, err := binary.Decode(data, binary.LittleEndian, out)
	require.NoError(t, err)
	return out
}

func floats(t *testing.T, tensor *safetensors.Tensor) (out []float32) {
	t.Helper()
	switch tensor.Dtype {
	case safetensors.F32:
		return values[float32](t, tensor)
	case safetensors.BF16:
		for _, bits := range values[hip.BF16](t, tensor) {
			out = append(out, bits.Float32())
		}
	default:
		t.Fatalf("%v is of no dtype that this test reads", tensor)
	}
	return out
}
