package moe

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestGolden runs the mixture of every reference checkpoint from its stored
// input, and compares every stage.
func TestGolden(t *testing.T) {
	for _, name := range []string{
		"tiny-f32", "tiny-bf16-bundled-sharded", "tiny-mxfp8", "tiny-mxfp8-e8m0", "tiny-init1-local2", "tiny-local0", "slim-real",
	} {
		t.Run(name, func(t *testing.T) {
			dir := hiptest.Shared(t, "golden", name)
			fsys := os.DirFS(dir)
			config, modules := goldenConfig(t, filepath.Join(dir, "config.json"))
			checkpoint, err := weights.OpenCheckpoint(fsys)
			require.NoError(t, err)
			defer checkpoint.Close()
			file, err := safetensors.Open(fsys, "golden.safetensors")
			require.NoError(t, err)
			defer file.Close()
			for module := range modules {
				m := goldenMixture(t, checkpoint, config, module)
				stages := golden{t, file, fmt.Sprintf("l%d.", module)}
				want := stages.outcome(config)
				x, residual := stages.floats("moe_norm_out"), stages.floats("post_attn_residual")
				t.Run(fmt.Sprintf("module %d", module), func(t *testing.T) {
					onEach(t, func(t *testing.T, d hip.Device) {
						requireClose(t, m.forward(t, d, x, residual), want, 1e-5)
					})
				})
			}
		})
	}
}

// goldenConfig reads what the mixture needs of a config.json.
func goldenConfig(t *testing.T, path string) (c Config, modules int) {
	type keys struct {
		HiddenSize             int      `json:"hidden_size"`
		IntermediateSize       int      `json:"intermediate_size"`
		SharedIntermediateSize *int     `json:"shared_intermediate_size"`
		NumLocalExperts        int      `json:"num_local_experts"`
		NumExpertsPerTok       int      `json:"num_experts_per_tok"`
		RoutedScalingFactor    float64  `json:"routed_scaling_factor"`
		SwigluAlpha            float64  `json:"swiglu_alpha"`
		SwigluLimit            float64  `json:"swiglu_limit"`
		SwigluBeta             *float64 `json:"swiglu_beta"`
		NumMTPModules          int      `json:"num_mtp_modules"`
	}
	var top struct {
		keys
		TextConfig *keys `json:"text_config"`
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &top))
	k := top.keys
	if top.TextConfig != nil {
		k = *top.TextConfig
	}
	c = Config{
		Hidden: k.HiddenSize, Intermediate: k.IntermediateSize, SharedIntermediate: k.IntermediateSize,
		Experts: k.NumLocalExperts, TopK: k.NumExpertsPerTok,
		Scale: k.RoutedScalingFactor, Alpha: k.SwigluAlpha, Limit: k.SwigluLimit, Beta: 1,
	}
	if k.SharedIntermediateSize != nil {
		c.SharedIntermediate = *k.SharedIntermediateSize
	}
	if k.SwigluBeta != nil {
		c.Beta = *k.SwigluBeta
	}
	return c, k.NumMTPModules
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
			if format.Quantized() {
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
	ids, rows := contents(g.t, g.tensor(g.prefix+"expert_ids")), contents(g.t, g.tensor("rows"))
	for ; len(rows) > 0; rows = rows[8:] {
		row := int(binary.LittleEndian.Uint64(rows))
		for k := range c.TopK {
			o.ids = append(o.ids, int32(binary.LittleEndian.Uint32(ids[4*(row*c.TopK+k):])))
		}
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

func floats(t *testing.T, tensor *safetensors.Tensor) []float32 {
	t.Helper()
	data, values := contents(t, tensor), []float32(nil)
	switch tensor.Dtype {
	case safetensors.F32:
		for ; len(data) > 0; data = data[4:] {
			values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(data)))
		}
	case safetensors.BF16:
		for ; len(data) > 0; data = data[2:] {
			values = append(values, hip.BF16(binary.LittleEndian.Uint16(data)).Float32())
		}
	default:
		t.Fatalf("%v is of no dtype that this test reads", tensor)
	}
	return values
}
