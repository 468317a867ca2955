package mtp_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/internal/rope"
)

// releasedConfig is the flat config of the released model's dimensions.
const releasedConfig = `{
	"architectures": ["MiniMaxM3MTP"], "model_type": "minimax_m3_mtp",
	"hidden_size": 6144, "intermediate_size": 3072, "shared_intermediate_size": 3072,
	"num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 200064,
	"max_position_embeddings": 1048576, "rms_norm_eps": 1e-06, "use_gemma_norm": true,
	"attention_output_gate": false, "rope_theta": 5000000, "rotary_dim": 64, "partial_rotary_factor": 0.5,
	"rope_scaling": null, "hidden_act": "swigluoai", "use_qk_norm": true, "qk_norm_type": "per_head",
	"tie_word_embeddings": false, "num_local_experts": 128, "num_experts_per_tok": 4, "n_shared_experts": 1,
	"scoring_func": "sigmoid", "use_routing_bias": true, "routed_scaling_factor": 2.0,
	"swiglu_alpha": 1.702, "swiglu_limit": 7.0, "num_mtp_modules": 1,
	"sparse_attention_config": {
		"use_sparse_attention": true, "sparse_index_dim": 128, "sparse_num_index_heads": 4,
		"sparse_topk_blocks": 16, "sparse_block_size": 128, "sparse_score_type": "max",
		"sparse_init_block": 0, "sparse_local_block": 1,
		"sparse_attention_freq": [0, 0, 1, 1], "sparse_disable_index_value": [0, 0, 1, 1]
	},
	"quantization_config": {
		"quant_method": "mxfp8", "activation_scheme": "dynamic", "fmt": "e4m3", "scale_fmt": "ue8m0",
		"weight_block_size": [1, 32], "ignored_layers": ["lm_head", "re:.*\\.gate$"]
	}
}`

// edit is one change to releasedConfig: a JSON value for a dotted key, or "" to remove it.
type edit struct{ key, value string }

func set(key, value string) edit { return edit{key, value} }
func remove(key string) edit     { return edit{key, ""} }

// editedConfig applies edits to the JSON object base.
func editedConfig(t testing.TB, base string, edits ...edit) []byte {
	t.Helper()
	config := decodeJSON(t, base).(map[string]any)
	for _, e := range edits {
		path := strings.Split(e.key, ".")
		object, last := config, len(path)-1
		for _, key := range path[:last] {
			nested, ok := object[key].(map[string]any)
			if !ok {
				nested = map[string]any{}
				object[key] = nested
			}
			object = nested
		}
		if e.value == "" {
			delete(object, path[last])
		} else {
			object[path[last]] = decodeJSON(t, e.value)
		}
	}
	data, err := json.Marshal(config)
	require.NoError(t, err)
	return data
}

// decodeJSON decodes text and keeps its numbers as they are written.
func decodeJSON(t testing.TB, text string) (value any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&value))
	return value
}

// bundled nests the edited released config under text_config.
func bundled(t testing.TB, edits ...edit) []byte {
	t.Helper()
	text := editedConfig(t, releasedConfig, append([]edit{remove("model_type")}, edits...)...)
	return editedConfig(t, `{"model_type": "minimax_m3_vl"}`, set("text_config", string(text)))
}

// configErrors lists the problems of a config that an error joins.
func configErrors(t testing.TB, err error) []mtp.ConfigProblem {
	t.Helper()
	problems := mtp.ConfigProblems(err)
	require.NotEmpty(t, problems, "%v", err)
	for _, p := range problems {
		input, ok := errors.AsType[*mtp.InputError](p.Err)
		require.True(t, ok)
		require.Equal(t, []any{p.Key, p.Got}, []any{input.Field, input.Got})
	}
	return problems
}

func TestParseConfigReleased(t *testing.T) {
	c, err := mtp.ParseConfig([]byte(releasedConfig))
	require.NoError(t, err)
	require.Empty(t, c.QuantizationNotes())
	require.Equal(t, []string{"lm_head", `re:.*\.gate$`}, c.IgnoredLayers())
	c.DropQuantization()
	require.Equal(t, &mtp.Config{
		ModelType: mtp.ModelTypeMTP, HiddenSize: 6144, VocabSize: 200064, NumMTPModules: 1,
		Attention: attention.Geometry{
			Heads: 64, KVHeads: 4, HeadDim: 128, IndexDim: 128, BlockSize: 128, TopkBlocks: 16, LocalBlocks: 1, Eps: 1e-6,
			Rope: attention.Rope{Frequencies: rope.Rule{Theta: 5e6, Dim: 64}.Frequencies(), AttentionFactor: 1, Positions: 1048576},
		},
		MoE: moe.Config{
			Hidden: 6144, Intermediate: 3072, SharedIntermediate: 3072, Experts: 128, TopK: 4, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1,
		},
	}, c)
}

func TestParseConfigDefaults(t *testing.T) {
	c, err := mtp.ParseConfig(editedConfig(t, releasedConfig,
		set("intermediate_size", "1024"), remove("shared_intermediate_size"), remove("n_shared_experts"),
		remove("scoring_func"), remove("attention_output_gate"), remove("use_qk_norm"), remove("use_routing_bias"),
		remove("tie_word_embeddings"), remove("rope_scaling"), remove("quantization_config"),
		remove("sparse_attention_config.sparse_local_block"), remove("sparse_attention_config.sparse_init_block"),
		remove("sparse_attention_config.sparse_score_type"), remove("sparse_attention_config.sparse_disable_index_value"),
	))
	require.NoError(t, err)
	require.Equal(t, 1024, c.MoE.SharedIntermediate)
	require.Equal(t, 1.0, c.MoE.Beta)
	require.Zero(t, c.Attention.LocalBlocks)
	require.Zero(t, c.Attention.InitBlocks)
	require.False(t, c.TieWordEmbeddings)
	_, quantized := c.QuantizationSays()
	require.False(t, quantized)
}

// Accepted spellings that differ from the released file.
func TestParseConfigAccepts(t *testing.T) {
	tests := []struct {
		name  string
		data  []byte
		check func(t *testing.T, c *mtp.Config)
	}{
		{"rope_theta as a float", editedConfig(t, releasedConfig, set("rope_theta", "5000000.0")),
			func(t *testing.T, c *mtp.Config) {
				require.InEpsilon(t, 1/math.Sqrt(5e6), c.Attention.Rope.Frequencies[16], 1e-14)
			}},
		{"rotary_dim derived", editedConfig(t, releasedConfig, remove("rotary_dim")),
			func(t *testing.T, c *mtp.Config) { require.Len(t, c.Attention.Rope.Frequencies, 32) }},
		{"rotary_dim alone", editedConfig(t, releasedConfig, remove("partial_rotary_factor")),
			func(t *testing.T, c *mtp.Config) { require.Len(t, c.Attention.Rope.Frequencies, 32) }},
		{"swiglu_beta", editedConfig(t, releasedConfig, set("swiglu_beta", "0.0")),
			func(t *testing.T, c *mtp.Config) { require.Zero(t, c.MoE.Beta) }},
		{"router_dtype", editedConfig(t, releasedConfig, set("router_dtype", `"bfloat16"`)), nil},
		{"sparse_disable_index_value true", editedConfig(t, releasedConfig, set("sparse_attention_config.sparse_disable_index_value", "true")), nil},
		{"sparse_disable_index_value of booleans", editedConfig(t, releasedConfig, set("sparse_attention_config.sparse_disable_index_value", "[false, false, true, 1]")), nil},
		{"forced blocks beyond topk", editedConfig(t, releasedConfig, set("sparse_attention_config.sparse_init_block", "16")),
			func(t *testing.T, c *mtp.Config) { require.Equal(t, 16, c.Attention.InitBlocks) }},
		{"tied at the top level of a bundle", editedConfig(t, string(bundled(t, remove("tie_word_embeddings"))), set("tie_word_embeddings", "true")),
			func(t *testing.T, c *mtp.Config) { require.True(t, c.TieWordEmbeddings) }},
		{"bundled", bundled(t), func(t *testing.T, c *mtp.Config) {
			require.True(t, c.Bundled)
			require.Equal(t, mtp.ModelTypeBundled, c.ModelType)
			require.Equal(t, 6144, c.HiddenSize)
			require.NotEmpty(t, c.IgnoredLayers())
		}},
		{"bundled, quantization at the top level", editedConfig(t, string(bundled(t, remove("quantization_config"))),
			set("quantization_config", `{"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": ["lm_head"]}`)),
			func(t *testing.T, c *mtp.Config) {
				require.Equal(t, []string{"lm_head"}, c.IgnoredLayers())
			}},
		{"text_config under the MTP model type", editedConfig(t, string(bundled(t)), set("model_type", `"minimax_m3_mtp"`)),
			func(t *testing.T, c *mtp.Config) { require.True(t, c.Bundled) }},
		{"quantization that differs at the top level", editedConfig(t, string(bundled(t)), set("quantization_config", `{"quant_method": "fp8"}`)),
			func(t *testing.T, c *mtp.Config) {
				require.Equal(t, []string{"quantization_config differs from that in text_config: what a tensor is stored as decides"}, c.QuantizationNotes())
			}},
		{"whole numbers as Python writes floats", editedConfig(t, releasedConfig, set("hidden_size", "6144.0"), set("head_dim", "1.28e2"),
			set("vocab_size", "20006400e-2"), set("sparse_attention_config.sparse_init_block", "0.0"),
			set("sparse_attention_config.sparse_attention_freq", "[0.0, 0, 1.0, 1]"), set("sparse_attention_config.sparse_disable_index_value", "[0.0, 0, 1.0, 1]")),
			func(t *testing.T, c *mtp.Config) {
				require.Equal(t, [3]int{6144, 128, 200064}, [3]int{c.HiddenSize, c.Attention.HeadDim, c.VocabSize})
			}},
		{"byte order mark", []byte("\ufeff" + releasedConfig), nil},
		{"NaN, Infinity and -Infinity elsewhere", []byte(strings.Replace(releasedConfig, "{", `{"initializer_range": NaN, "a": [Infinity, {"b": -Infinity}],`, 1)), nil},
		{"family constants absent", editedConfig(t, releasedConfig, remove("use_gemma_norm"), remove("qk_norm_type")), nil},
		{"num_nextn_predict_layers alone", editedConfig(t, releasedConfig, remove("num_mtp_modules"), set("num_nextn_predict_layers", "3")),
			func(t *testing.T, c *mtp.Config) { require.Equal(t, 3, c.NumMTPModules) }},
		{"num_nextn_predict_layers of another kind beside num_mtp_modules", editedConfig(t, releasedConfig, set("num_nextn_predict_layers", `"one"`)),
			func(t *testing.T, c *mtp.Config) { require.Equal(t, 1, c.NumMTPModules) }},
		{"model type of transformers 5", editedConfig(t, releasedConfig, set("model_type", `"minimax_m3_vl_text"`)),
			func(t *testing.T, c *mtp.Config) { require.Equal(t, mtp.ModelTypeVLText, c.ModelType) }},
		{"unrelated keys", editedConfig(t, releasedConfig, set("vision_config.hidden_size", `"anything"`), set("num_hidden_layers", "60")), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := mtp.ParseConfig(test.data)
			require.NoError(t, err)
			if test.check != nil {
				test.check(t, c)
			}
			requireAmongOthers(t, test.data, c, nil)
		})
	}
}

// transformers5 turns the released config into what transformers 5 writes of it.
func transformers5(edits ...edit) []edit {
	return append([]edit{
		remove("sparse_attention_config"), set("index_n_heads", "4"), set("index_head_dim", "128"), set("index_block_size", "128"),
		set("index_topk_blocks", "16"), set("index_local_blocks", "1"), set("hidden_act", `"silu"`), remove("use_gemma_norm"),
		remove("qk_norm_type"), remove("scoring_func"), remove("use_qk_norm"), remove("attention_output_gate"), remove("rope_theta"),
		remove("partial_rotary_factor"), set("rope_parameters", `{"rope_theta": 5000000, "partial_rotary_factor": 0.5, "rope_type": "default"}`),
	}, edits...)
}

// TestParseConfigTransformers5: both shapes mean the same.
func TestParseConfigTransformers5(t *testing.T) {
	want, err := mtp.ParseConfig([]byte(releasedConfig))
	require.NoError(t, err)
	for name, edits := range map[string][]edit{
		"as it is":                   transformers5(),
		"its default":                transformers5(remove("index_local_blocks")),
		"its activation by its name": transformers5(set("hidden_act", `"swigluoai"`)),
		"both shapes":                transformers5(set("sparse_attention_config.use_sparse_attention", "true"), set("sparse_attention_config.sparse_topk_blocks", "16.0"), set("sparse_attention_config.sparse_local_block", "1")),
		"rope_scaling too":           transformers5(set("rope_scaling", `{"type": "default"}`)),
		"equal rope_scaling":         transformers5(set("rope_scaling", `{"rope_theta": 5000000.0, "partial_rotary_factor": 0.5, "rope_type": "default", "factor": null}`)),
	} {
		t.Run(name, func(t *testing.T) {
			c, err := mtp.ParseConfig(editedConfig(t, releasedConfig, edits...))
			require.NoError(t, err)
			require.Equal(t, want.Attention, c.Attention)
			require.Equal(t, want.MoE, c.MoE)
		})
	}
	for key, c := range map[string]struct {
		edit edit
		rule string
	}{
		"index_n_heads":     {set("index_n_heads", "2"), mtp.RuleUnsupported},
		"index_head_dim":    {set("index_head_dim", "32"), mtp.RuleInconsistent},
		"index_block_size":  {set("index_block_size", "0"), mtp.RuleOutOfRange},
		"index_topk_blocks": {remove("index_topk_blocks"), mtp.RuleMissingKey},
		"index_init_blocks": {set("index_init_blocks", "-1"), mtp.RuleOutOfRange},
		"hidden_act":        {set("hidden_act", `"gelu"`), mtp.RuleUnsupported},
		"index_local_blocks": {set("sparse_attention_config",
			`{"use_sparse_attention": true, "sparse_local_block": 2}`), mtp.RuleInconsistent},
	} {
		t.Run(key, func(t *testing.T) {
			_, err := mtp.ParseConfig(editedConfig(t, releasedConfig, transformers5(c.edit)...))
			require.Error(t, err)
			requireRule(t, err, c.rule)
			require.Equal(t, key, configErrors(t, err)[0].Key)
		})
	}
}

// TestParseConfigBoundsItsMessages: a hostile config costs little more than its size, and
// its error is short.
func TestParseConfigBoundsItsMessages(t *testing.T) {
	var keys []string
	for i := range 120_000 {
		keys = append(keys, fmt.Sprintf(`"k%d": 0`, i))
	}
	many := strings.Join(keys, ", ")
	long := strings.Repeat("x", 1<<20)
	for name, data := range map[string]string{
		"unknown keys of rope":     `{"rope_scaling": {` + many + `}}`,
		"duplicates in a long key": `{"` + long + `": {` + strings.Repeat(`"a": 0, `, 120_000) + `"b": 0}}`,
		"a long value":             `{"model_type": "` + long + `", "hidden_size": [` + strings.Repeat("0, ", 1<<18) + `0], "head_dim": {` + many + `}}`,
		"a long unknown key":       `{"rope_scaling": {"` + long + `": "` + long + `"}}`,
		"a long number":            `{"hidden_size": ` + strings.Repeat("9", 1<<20) + `, "head_dim": 1e` + strings.Repeat("9", 1<<20) + `}`,
		"a key with control codes": `{"rope_scaling": {"\u001b[2J\nloads": 0}}`,
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := mtp.ParseConfig([]byte(data))
			require.Less(t, time.Since(start), 5*time.Second)
			require.ErrorIs(t, err, mtp.ErrConfig)
			require.Less(t, len(err.Error()), 64<<10)
			require.NotContains(t, err.Error(), "\x1b")
			require.NotContains(t, err.Error(), "\nloads")
		})
	}
}

// TestLongIgnoredLayers: a config of megabytes of bad patterns loads, at little more than
// the memory of its text.
func TestLongIgnoredLayers(t *testing.T) {
	list := strings.Repeat(`"re:(", `, 1<<19) + `"re:("`
	files := synthetic{format: "MXFP8", config: []edit{set("quantization_config", `{"quant_method": "mxfp8", "ignored_layers": []}`)}}.files(t)
	config := files["config.json"]
	config.Data = []byte(strings.Replace(string(config.Data), `"ignored_layers":[]`, `"ignored_layers":[`+list+`]`, 1))
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	before := memory.TotalAlloc
	_, report, err := mtp.InspectFS(files, mtp.Options{})
	require.NoError(t, err)
	runtime.ReadMemStats(&memory)
	require.Less(t, memory.TotalAlloc-before, uint64(40*len(config.Data)))
	require.Contains(t, strings.Join(report.Notes, "\n"), "ignored_layers is not compared")
}

func TestReadConfig(t *testing.T) {
	c, err := mtp.ReadConfig(fstest.MapFS{"config.json": {Data: []byte(releasedConfig)}})
	require.NoError(t, err)
	require.Equal(t, 6144, c.HiddenSize)

	_, err = mtp.ReadConfig(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "config.json")

	_, err = mtp.ReadConfig(fstest.MapFS{"config.json": {Mode: fs.ModeDir}})
	require.Error(t, err)

	huge := []byte(releasedConfig + strings.Repeat(" ", 16<<20))
	_, err = mtp.ReadConfig(fstest.MapFS{"config.json": {Data: huge}})
	requireRule(t, err, mtp.RuleOutOfRange)
}

func TestReadConfigGolden(t *testing.T) {
	for _, name := range []string{
		"golden/tiny-f32", "golden/tiny-bf16-bundled-sharded", "golden/tiny-mxfp8", "golden/tiny-mxfp8-e8m0",
		"golden/tiny-init1-local2", "golden/tiny-init3-local2", "golden/tiny-local0", "golden/slim-real", "golden/broken/ok-control",
		"m3-nano/bf16", "m3-nano/mxfp8",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := mtp.ReadConfig(os.DirFS(hiptest.Shared(t, filepath.FromSlash(name))))
			require.NoError(t, err)
			requireInvariants(t, c)
			require.Equal(t, strings.Contains(name, "bundled"), c.Bundled)
			_, quantized := c.QuantizationSays()
			require.Equal(t, strings.Contains(name, "mxfp8") || strings.Contains(name, "slim-real"), quantized)
		})
	}
}

func TestReadConfigBroken(t *testing.T) {
	tests := []struct {
		folder, key string
		kind        string
	}{
		{"config-missing-hidden-size", "hidden_size", mtp.RuleMissingKey},
		{"config-heads-not-divisible", "num_attention_heads", mtp.RuleInconsistent},
		{"config-negative-experts", "num_local_experts", mtp.RuleOutOfRange},
		{"config-topk-too-large", "num_experts_per_tok", mtp.RuleInconsistent},
		{"config-zero-block", "sparse_attention_config.sparse_block_size", mtp.RuleOutOfRange},
		{"config-not-json", "use_gemma_norm", mtp.RuleSyntax},
	}
	for _, test := range tests {
		t.Run(test.folder, func(t *testing.T) {
			_, err := mtp.ReadConfig(os.DirFS(hiptest.Shared(t, "golden", "broken", test.folder)))
			requireRule(t, err, test.kind)
			require.ErrorIs(t, err, mtp.ErrConfig)
			require.Equal(t, test.key, configErrors(t, err)[0].Key)
		})
	}
	_, err := mtp.ReadConfig(os.DirFS(hiptest.Shared(t, "golden", "broken", "no-config")))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// requireRule checks that a problem of err breaks the rule.
func requireRule(t testing.TB, err error, rule string) {
	t.Helper()
	require.Equal(t, rule, configErrors(t, err)[0].Rule, "%v", err)
	if rule == mtp.RuleUnsupported {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
}
