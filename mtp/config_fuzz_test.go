package mtp_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// requireInvariants checks what ParseConfig promises of a config it returns.
func requireInvariants(t testing.TB, c *mtp.Config) {
	t.Helper()
	for name, size := range map[string]int{
		"HiddenSize": c.HiddenSize, "IntermediateSize": c.MoE.Intermediate, "SharedIntermediateSize": c.MoE.SharedIntermediate,
		"NumAttentionHeads": c.Attention.Heads, "NumKeyValueHeads": c.Attention.KVHeads, "HeadDim": c.Attention.HeadDim,
		"VocabSize": c.VocabSize, "NumLocalExperts": c.MoE.Experts,
		"NumExpertsPerTok": c.MoE.TopK, "NumMTPModules": c.NumMTPModules, "IndexDim": c.Attention.IndexDim,
		"TopkBlocks": c.Attention.TopkBlocks, "BlockSize": c.Attention.BlockSize,
	} {
		require.Positive(t, size, name)
		require.LessOrEqual(t, size, 1<<30, name)
	}
	for name, x := range map[string]float64{
		"RMSNormEps": c.Attention.Eps, "RoutedScalingFactor": c.MoE.Scale, "SwigluAlpha": c.MoE.Alpha,
		"SwigluLimit": c.MoE.Limit, "AttentionFactor": c.Attention.Rope.AttentionFactor,
	} {
		require.Greater(t, float32(x), float32(0), name)
		require.LessOrEqual(t, x, math.MaxFloat32, name)
	}
	require.LessOrEqual(t, math.Abs(c.MoE.Beta), math.MaxFloat32)
	require.Zero(t, c.Attention.Heads%c.Attention.KVHeads)
	require.LessOrEqual(t, c.MoE.TopK, c.MoE.Experts)
	require.GreaterOrEqual(t, c.Attention.InitBlocks, 0)
	require.GreaterOrEqual(t, c.Attention.LocalBlocks, 0)

	frequencies := c.Attention.Rope.Frequencies
	require.NotEmpty(t, frequencies)
	require.LessOrEqual(t, 2*len(frequencies), c.Attention.HeadDim)
	require.LessOrEqual(t, 2*len(frequencies), c.Attention.IndexDim)
	require.Positive(t, c.Attention.Rope.Positions)
	require.Less(t, c.Attention.Rope.Positions, math.MaxInt32)
	for _, f := range frequencies {
		require.GreaterOrEqual(t, f, 0.0)
		require.LessOrEqual(t, f, 1.0)
	}

	// The largest parameter, all experts of a layer, in 4-byte elements.
	bytes := 4 * int64(c.MoE.Experts) * 2 * int64(c.MoE.Intermediate) * int64(c.HiddenSize)
	require.LessOrEqual(t, bytes, int64(1)<<49)
}

// FuzzConfig: no input panics or hangs; what parses keeps the promises, and what
// does not is an ErrConfig.
func FuzzConfig(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*", "config.json"))
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Add([]byte(releasedConfig))
	f.Add(bundled(f))
	f.Add(editedConfig(f, releasedConfig, set("rope_scaling", `{"rope_type": "yarn", "factor": 4, "beta_fast": 32, "mscale": 1, "mscale_all_dim": 1}`)))
	f.Add(editedConfig(f, releasedConfig, set("rope_parameters", `{"rope_type": "linear", "factor": 1.5, "rope_theta": 5000000}`)))
	for _, quantization := range []string{
		`{"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": {"group_0": {"format": "nvfp4-pack-quantized", "targets": ["Linear", "re:.*"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}}, "ignore": ["lm_head", "re:.*gate$"]}`,
		`{"quant_method": "quark", "exclude": ["*gate"], "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 32}}, "layer_quant_config": {"*w2": {"weight": [{}]}}, "layer_type_quant_config": {"nn.Linear": {"weight": null}}}`,
		`{"quant_method": "modelopt", "quantization": {"quant_algo": "MIXED_PRECISION", "exclude_modules": ["[!a-z]*"], "quantized_layers": {"model.mtp.layers.0.eh_proj": {"quant_algo": "MXFP8"}}}}`,
	} {
		f.Add(editedConfig(f, releasedConfig, set("quantization_config", quantization)))
	}
	f.Add([]byte(`{"model_type": "minimax_m3_vl", "text_config": {}}`))
	f.Add([]byte(`{"a": [[[[1e999, "\ud800"]]]], "a": null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := mtp.ParseConfig(data)
		if err != nil {
			require.ErrorIs(t, err, mtp.ErrConfig)
			require.Nil(t, c)
			return
		}
		requireInvariants(t, c)
		if _, quantized := c.QuantizationSays(); quantized {
			if err := c.CompileQuantization(); err != nil {
				require.ErrorIs(t, err, mtp.ErrPattern)
			}
			if _, err := mtp.Ignored(c.IgnoredLayers(), "language_model.model.mtp.layers.0.eh_proj"); err != nil {
				require.ErrorIs(t, err, mtp.ErrPattern)
			}
		}
	})
}
