package mtp_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// One row per rule: the edits break it, and exactly one error names the key and the kind.
func TestParseConfigRejects(t *testing.T) {
	const sparse, scaling = "sparse_attention_config.", "rope_scaling."
	yarn := func(edits ...edit) []edit {
		return append([]edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 4}`)}, edits...)
	}
	tests := []struct {
		name  string
		edits []edit
		key   string
		kind  string
	}{
		{"model_type absent", []edit{remove("model_type")}, "model_type", mtp.RuleMissingKey},
		{"model_type unknown", []edit{set("model_type", `"llama"`)}, "model_type", mtp.RuleUnsupported},
		{"model_type not a string", []edit{set("model_type", "3")}, "model_type", mtp.RuleWrongType},
		{"bundled without text_config", []edit{set("model_type", `"minimax_m3_vl"`)}, "text_config", mtp.RuleMissingKey},
		{"text_config not an object", []edit{set("text_config", "[]")}, "text_config", mtp.RuleWrongType},

		{"integer with a fraction", []edit{set("hidden_size", "3.5")}, "hidden_size", mtp.RuleWrongType},
		{"integer with a small fraction", []edit{set("hidden_size", "64.00000000000000000000001")}, "hidden_size", mtp.RuleWrongType},
		{"integer with a negative exponent", []edit{set("hidden_size", "645e-1")}, "hidden_size", mtp.RuleWrongType},
		{"integer with a large exponent", []edit{set("hidden_size", "1e999999999999")}, "hidden_size", mtp.RuleOutOfRange},
		{"integer beyond int64 with an exponent", []edit{set("hidden_size", "1e30")}, "hidden_size", mtp.RuleOutOfRange},
		{"integer as a string", []edit{set("hidden_size", `"64"`)}, "hidden_size", mtp.RuleWrongType},
		{"integer as a boolean", []edit{set("hidden_size", "true")}, "hidden_size", mtp.RuleWrongType},
		{"integer as null", []edit{set("hidden_size", "null")}, "hidden_size", mtp.RuleMissingKey},
		{"integer beyond int64", []edit{set("hidden_size", "99999999999999999999")}, "hidden_size", mtp.RuleOutOfRange},
		{"hidden_size 0", []edit{set("hidden_size", "0")}, "hidden_size", mtp.RuleOutOfRange},
		{"hidden_size huge", []edit{set("hidden_size", "131073")}, "hidden_size", mtp.RuleOutOfRange},
		{"vocab_size huge", []edit{set("vocab_size", "4294967296")}, "vocab_size", mtp.RuleOutOfRange},
		{"max_position_embeddings negative", []edit{set("max_position_embeddings", "-1")}, "max_position_embeddings", mtp.RuleOutOfRange},
		{"num_mtp_modules 0", []edit{set("num_mtp_modules", "0")}, "num_mtp_modules", mtp.RuleOutOfRange},
		{"shared_intermediate_size 0", []edit{set("shared_intermediate_size", "0")}, "shared_intermediate_size", mtp.RuleOutOfRange},
		{"num_local_experts negative", []edit{set("num_local_experts", "-1")}, "num_local_experts", mtp.RuleOutOfRange},

		{"rms_norm_eps 0", []edit{set("rms_norm_eps", "0")}, "rms_norm_eps", mtp.RuleOutOfRange},
		{"rms_norm_eps below float32", []edit{set("rms_norm_eps", "1e-60")}, "rms_norm_eps", mtp.RuleOutOfRange},
		{"rms_norm_eps as a string", []edit{set("rms_norm_eps", `"1e-6"`)}, "rms_norm_eps", mtp.RuleWrongType},
		{"swiglu_limit negative", []edit{set("swiglu_limit", "-7")}, "swiglu_limit", mtp.RuleOutOfRange},
		{"swiglu_alpha beyond float64", []edit{set("swiglu_alpha", "1e999")}, "swiglu_alpha", mtp.RuleOutOfRange},
		{"swiglu_beta beyond float32", []edit{set("swiglu_beta", "1e39")}, "swiglu_beta", mtp.RuleOutOfRange},
		{"routed_scaling_factor 0", []edit{set("routed_scaling_factor", "0")}, "routed_scaling_factor", mtp.RuleOutOfRange},

		{"heads not a multiple", []edit{set("num_attention_heads", "63")}, "num_attention_heads", mtp.RuleInconsistent},
		{"topk beyond experts", []edit{set("num_experts_per_tok", "129")}, "num_experts_per_tok", mtp.RuleInconsistent},
		{"two shared experts", []edit{set("n_shared_experts", "2")}, "n_shared_experts", mtp.RuleUnsupported},
		{"no shared expert", []edit{set("n_shared_experts", "0")}, "n_shared_experts", mtp.RuleUnsupported},

		{"hidden_act", []edit{set("hidden_act", `"silu"`)}, "hidden_act", mtp.RuleUnsupported},
		{"qk_norm_type", []edit{set("qk_norm_type", `"per_layer"`)}, "qk_norm_type", mtp.RuleUnsupported},
		{"scoring_func", []edit{set("scoring_func", `"softmax"`)}, "scoring_func", mtp.RuleUnsupported},
		{"router_dtype", []edit{set("router_dtype", `"float16"`)}, "router_dtype", mtp.RuleUnsupported},
		{"use_gemma_norm false", []edit{set("use_gemma_norm", "false")}, "use_gemma_norm", mtp.RuleUnsupported},
		{"use_gemma_norm as a number", []edit{set("use_gemma_norm", "1")}, "use_gemma_norm", mtp.RuleWrongType},
		{"use_qk_norm false", []edit{set("use_qk_norm", "false")}, "use_qk_norm", mtp.RuleUnsupported},
		{"use_routing_bias false", []edit{set("use_routing_bias", "false")}, "use_routing_bias", mtp.RuleUnsupported},
		{"attention_output_gate true", []edit{set("attention_output_gate", "true")}, "attention_output_gate", mtp.RuleUnsupported},
		{"tie_word_embeddings as a string", []edit{set("tie_word_embeddings", `"no"`)}, "tie_word_embeddings", mtp.RuleWrongType},

		{"no sparse attention", []edit{remove("sparse_attention_config")}, "sparse_attention_config", mtp.RuleMissingKey},
		{"sparse attention unused", []edit{set(sparse+"use_sparse_attention", "false")}, sparse + "use_sparse_attention", mtp.RuleUnsupported},
		{"block size 0", []edit{set(sparse+"sparse_block_size", "0")}, sparse + "sparse_block_size", mtp.RuleOutOfRange},
		{"topk blocks 0", []edit{set(sparse+"sparse_topk_blocks", "0")}, sparse + "sparse_topk_blocks", mtp.RuleOutOfRange},
		{"init block negative", []edit{set(sparse+"sparse_init_block", "-1")}, sparse + "sparse_init_block", mtp.RuleOutOfRange},
		{"local block negative", []edit{set(sparse+"sparse_local_block", "-1")}, sparse + "sparse_local_block", mtp.RuleOutOfRange},
		{"score type", []edit{set(sparse+"sparse_score_type", `"mean"`)}, sparse + "sparse_score_type", mtp.RuleUnsupported},
		{"index heads unlike KV heads", []edit{set(sparse+"sparse_num_index_heads", "2")}, sparse + "sparse_num_index_heads", mtp.RuleUnsupported},
		{"index dim below rotary", []edit{set(sparse+"sparse_index_dim", "32")}, sparse + "sparse_index_dim", mtp.RuleInconsistent},
		{"index value on a sparse layer", []edit{set(sparse+"sparse_disable_index_value", "[0, 0, 1, 0]")}, sparse + "sparse_disable_index_value", mtp.RuleUnsupported},
		{"index value everywhere", []edit{set(sparse+"sparse_disable_index_value", "false")}, sparse + "sparse_disable_index_value", mtp.RuleUnsupported},
		{"index value flag of another type", []edit{set(sparse+"sparse_disable_index_value", "[0, 0, 1, 2]")}, sparse + "sparse_disable_index_value", mtp.RuleWrongType},
		{"index value flags of another length", []edit{set(sparse+"sparse_disable_index_value", "[1]")}, sparse + "sparse_disable_index_value", mtp.RuleInconsistent},
		{"index value with every layer sparse", []edit{remove(sparse + "sparse_attention_freq")}, sparse + "sparse_disable_index_value", mtp.RuleUnsupported},

		{"rope_theta absent", []edit{remove("rope_theta")}, "rope_theta", mtp.RuleMissingKey},
		{"rope_theta below 1", []edit{set("rope_theta", "0.5")}, "rope_theta", mtp.RuleOutOfRange},
		{"rope_theta twice", []edit{set("rope_parameters.rope_theta", "10000")}, "rope_parameters.rope_theta", mtp.RuleInconsistent},
		{"rotary width absent", []edit{remove("rotary_dim"), remove("partial_rotary_factor")}, "rotary_dim", mtp.RuleMissingKey},
		{"rotary_dim odd", []edit{set("rotary_dim", "63"), remove("partial_rotary_factor")}, "rotary_dim", mtp.RuleInconsistent},
		{"rotary_dim beyond head_dim", []edit{set("rotary_dim", "256"), remove("partial_rotary_factor"), set(sparse+"sparse_index_dim", "256")}, "rotary_dim", mtp.RuleInconsistent},
		{"rotary_dim unlike partial_rotary_factor", []edit{set("rotary_dim", "32")}, "rotary_dim", mtp.RuleInconsistent},
		{"partial_rotary_factor beyond 1", []edit{remove("rotary_dim"), set("partial_rotary_factor", "1.5")}, "partial_rotary_factor", mtp.RuleOutOfRange},
		{"partial_rotary_factor of nothing", []edit{remove("rotary_dim"), set("partial_rotary_factor", "0")}, "rotary_dim", mtp.RuleInconsistent},

		{"rope_scaling and rope_parameters", []edit{set("rope_scaling", `{"rope_type": "default"}`), set("rope_parameters", `{"rope_type": "linear", "factor": 2}`)}, "rope_scaling", mtp.RuleInconsistent},
		{"rope_scaling without a type", []edit{set("rope_scaling", `{"factor": 2}`)}, scaling + "rope_type", mtp.RuleMissingKey},
		{"rope type unknown", []edit{set("rope_scaling", `{"type": "dynamic", "factor": 2}`)}, scaling + "type", mtp.RuleUnsupported},
		{"rope types that differ", []edit{set("rope_scaling", `{"type": "linear", "rope_type": "default"}`)}, scaling + "type", mtp.RuleInconsistent},
		{"rope key unknown", []edit{set("rope_scaling", `{"rope_type": "default", "mrope_section": [1]}`)}, scaling + "mrope_section", mtp.RuleUnsupported},
		{"linear without factor", []edit{set("rope_scaling", `{"rope_type": "linear"}`)}, scaling + "factor", mtp.RuleMissingKey},
		{"linear shrinking", []edit{set("rope_scaling", `{"rope_type": "linear", "factor": 0.5}`)}, scaling + "factor", mtp.RuleOutOfRange},
		{"linear beyond int32", []edit{set("rope_scaling", `{"rope_type": "linear", "factor": 2048}`)}, scaling + "factor", mtp.RuleOutOfRange},
		{"yarn without factor", yarn(remove(scaling + "factor")), scaling + "factor", mtp.RuleMissingKey},
		{"yarn beyond int32", yarn(set(scaling+"factor", "2048")), scaling + "factor", mtp.RuleOutOfRange},
		{"yarn original 0", yarn(set(scaling+"original_max_position_embeddings", "0")), scaling + "original_max_position_embeddings", mtp.RuleOutOfRange},
		{"yarn base 1", yarn(set("rope_theta", "1")), scaling + "rope_theta", mtp.RuleOutOfRange},
		{"yarn betas swapped", yarn(set(scaling+"beta_fast", "1"), set(scaling+"beta_slow", "32")), scaling + "beta_fast", mtp.RuleInconsistent},
		{"yarn without truncation", yarn(set(scaling+"truncate", "false")), scaling + "truncate", mtp.RuleUnsupported},
		{"yarn attention_factor 0", yarn(set(scaling+"attention_factor", "0")), scaling + "attention_factor", mtp.RuleOutOfRange},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := mtp.ParseConfig(editedConfig(t, releasedConfig, test.edits...))
			require.Nil(t, c)
			require.ErrorIs(t, err, mtp.ErrConfig)
			found := configErrors(t, err)
			require.Len(t, found, 1, "%v", err)
			require.Equal(t, test.key, found[0].Key)
			require.Equal(t, test.kind, found[0].Rule, "%v", err)
			require.ErrorContains(t, err, "config.json: "+test.key+": ")
			requireAmongOthers(t, editedConfig(t, releasedConfig, test.edits...), nil, err)
		})
	}
}

func TestParseConfigRequiredKeys(t *testing.T) {
	for _, key := range []string{
		"hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
		"max_position_embeddings", "rms_norm_eps", "num_local_experts", "num_experts_per_tok", "routed_scaling_factor",
		"swiglu_alpha", "swiglu_limit", "num_mtp_modules", "hidden_act",
		"sparse_attention_config.use_sparse_attention", "sparse_attention_config.sparse_index_dim",
		"sparse_attention_config.sparse_num_index_heads", "sparse_attention_config.sparse_topk_blocks",
		"sparse_attention_config.sparse_block_size",
	} {
		t.Run(key, func(t *testing.T) {
			for prefix, data := range map[string][]byte{
				"":             editedConfig(t, releasedConfig, remove(key)),
				"text_config.": bundled(t, remove(key)),
			} {
				_, err := mtp.ParseConfig(data)
				found := configErrors(t, err)
				require.Len(t, found, 1, "%v", err)
				require.Equal(t, prefix+key, found[0].Key)
				require.Equal(t, "nothing", found[0].Got)
				requireRule(t, err, mtp.RuleMissingKey)
			}
		})
	}
}

// Contradictions between the two levels of a bundled config.
func TestParseConfigBundledConflicts(t *testing.T) {
	tests := []struct {
		name string
		edit edit
		key  string
	}{
		{"tied embeddings", set("tie_word_embeddings", "true"), "tie_word_embeddings"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := mtp.ParseConfig(editedConfig(t, string(bundled(t)), test.edit))
			requireRule(t, err, mtp.RuleInconsistent)
			require.Equal(t, test.key, configErrors(t, err)[0].Key)
		})
	}
}

func TestParseConfigReportsAllProblems(t *testing.T) {
	_, err := mtp.ParseConfig(editedConfig(t, releasedConfig, remove("hidden_size"), set("head_dim", "1.5"), set("vocab_size", "0"),
		set("hidden_act", `"gelu"`), set("num_attention_heads", "63"), remove("sparse_attention_config.sparse_block_size")))
	keys := map[string]bool{}
	for _, e := range configErrors(t, err) {
		keys[e.Key] = true
	}
	require.Equal(t, map[string]bool{
		"hidden_size": true, "head_dim": true, "vocab_size": true, "hidden_act": true,
		"num_attention_heads": true, "sparse_attention_config.sparse_block_size": true,
	}, keys)
}

func TestParseConfigSyntax(t *testing.T) {
	withExtra := func(extra string) string { return strings.Replace(releasedConfig, "{", "{"+extra, 1) }
	tests := []struct {
		name, data string
		kind       string
		text       string
	}{
		{"empty", "", mtp.RuleSyntax, "end of text at line 1, column 1"},
		{"cut", releasedConfig[:200], mtp.RuleSyntax, ""},
		{"array", "[]", mtp.RuleSyntax, "[]"},
		{"number", "3", mtp.RuleSyntax, "3"},
		{"null", "null", mtp.RuleSyntax, "null"},
		{"trailing object", releasedConfig + "{}", mtp.RuleSyntax, "want end of text"},
		{"trailing garbage", releasedConfig + "x", mtp.RuleSyntax, "got 'x' at line 21, column 2, want end of text"},
		{"closing bracket", "]", mtp.RuleSyntax, ""},
		{"trailing comma", "{\"a\": 1,\n}", mtp.RuleSyntax, "a: not a JSON object: got '}' at line 2, column 1, want a string"},
		{"python NaN misspelt", `{"a": Nan}`, mtp.RuleSyntax, "a: not a JSON object: got 'N' at line 1, column 7"},
		{"invalid UTF-8", withExtra("\"a\": \"\xff\","), mtp.RuleSyntax, "UTF-8"},
		{"byte order mark twice", "\ufeff\ufeff" + releasedConfig, mtp.RuleSyntax, ""},
		{"nested too deep", withExtra(`"a": ` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + ","), mtp.RuleSyntax, "at most 64 nested values"},
		{"duplicate at the top", withExtra(`"hidden_size": 6144,`), mtp.RuleDuplicateKey, "hidden_size"},
		{"duplicate escaped", withExtra(`"hidden\u005fsize": 6144,`), mtp.RuleDuplicateKey, "hidden_size"},
		{"duplicate nested", withExtra(`"a": {"b": [{"c": 1, "c": 1}]},`), mtp.RuleDuplicateKey, "a.b.c"},
		{"half a surrogate pair", withExtra(`"a": "\ud800",`), mtp.RuleSyntax, "surrogate"},
		{"NaN in a key of the head's", strings.Replace(releasedConfig, `"hidden_size": 6144`, `"hidden_size": NaN`, 1), mtp.RuleOutOfRange, "hidden_size: out of range: got NaN"},
		{"Infinity in a key of the head's", strings.Replace(releasedConfig, `"swiglu_limit": 7.0`, `"swiglu_limit": Infinity`, 1), mtp.RuleOutOfRange, "swiglu_limit: out of range: got Infinity"},
		{"every duplicate", `{"a": 1, "a": 1, "b": 1, "b": 1}`, mtp.RuleDuplicateKey, "b: duplicate key: got the key again at line 1, column 26"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := mtp.ParseConfig([]byte(test.data))
			require.Nil(t, c)
			require.ErrorIs(t, err, mtp.ErrConfig)
			requireRule(t, err, test.kind)
			require.ErrorContains(t, err, test.text)
		})
	}
}
