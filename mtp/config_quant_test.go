package mtp_test

import (
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

func TestQuantizationIgnored(t *testing.T) {
	const layer = "model.mtp.layers.0.transformer_layer"
	tests := []struct {
		name, entry, module string
		want                bool
	}{
		{"equal", "lm_head", "lm_head", true},
		{"below", layer + ".block_sparse_moe", layer + ".block_sparse_moe.gate", true},
		{"not on a dotted boundary", layer + ".block_sparse_moe.ga", layer + ".block_sparse_moe.gate", false},
		{"layer 1 is not a prefix of layer 10", "model.mtp.layers.1", "model.mtp.layers.10.eh_proj", false},
		{"above", layer + ".block_sparse_moe.gate", layer + ".block_sparse_moe", false},
		{"suffix", "gate", layer + ".block_sparse_moe.gate", false},
		{"prefixed module, bare entry", "model.mtp.layers.0", "language_model.model.mtp.layers.0.eh_proj", true},
		{"bare module, prefixed entry", "language_model.model.mtp", "model.mtp.layers.0.eh_proj", true},
		{"everything of the text model", "language_model", "lm_head", true},
		{"pattern", `re:.*\.gate$`, layer + ".block_sparse_moe.gate", true},
		{"pattern that ends too early", `re:.*\.gate$`, layer + ".shared_experts.gate_proj", false},
		{"pattern is anchored at the start", `re:layers`, "model.mtp.layers.0.eh_proj", false},
		{"pattern is not anchored at the end", `re:model\.mtp`, "model.mtp.layers.0.eh_proj", true},
		{"alternatives are anchored too", `re:nothing|layers`, "model.mtp.layers.0.eh_proj", false},
		{"pattern of the prefixed name", `re:language_model\.lm_head`, "lm_head", true},
		{"negative lookahead passes", `re:^(?!.*experts).*_proj$`, layer + ".self_attn.q_proj", true},
		{"negative lookahead stops", `re:^(?!.*experts).*_proj$`, layer + ".block_sparse_moe.shared_experts.up_proj", false},
		{"lookbehind", `re:.*(?<=index_)q_proj`, layer + ".self_attn.index_q_proj", true},
		{"lookbehind stops", `re:.*(?<=index_)q_proj`, layer + ".self_attn.q_proj", false},
		{"python named group", `re:(?P<stem>model)\.(?P=stem)$`, "model.model", true},
		{"python named group differs", `re:(?P<stem>model)\.(?P=stem)$`, "model.other", false},
		{"python end of text", `re:lm_head\Z`, "lm_head", true},
		{"python end of text is not before a newline", `re:lm_head\Z`, "lm_head\n", false},
		{"bracket as the first of a class", `re:[]Z]\.[^]]$`, "Z.a", true},
		{"P in a class", `re:[(?P<]lm`, "<lm", true},
		{"escaped group", `re:\(?P<?lm_head`, "P<lm_head", true},
		{"empty pattern", `re:`, "anything", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := mtp.Ignored([]string{test.entry}, test.module)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestQuantizationIgnoredNothing(t *testing.T) {
	got, err := mtp.Ignored(nil, "lm_head")
	require.NoError(t, err)
	require.False(t, got)
}

// TestPatternsAreBounded: patterns that backtrack for ever, or ask for much memory, are
// an error within a second or two for all of them, which names one.
func TestPatternsAreBounded(t *testing.T) {
	repeat := func(s string, n int) []string { return slices.Repeat([]string{s}, n) }
	for name, entries := range map[string][]string{
		"backtracks for ever":   {`re:(x+x+)+(?=y)y`},
		"many that backtrack":   repeat(`re:(x+x+)+(?=y)y`, 256),
		"many without a match":  repeat(`re:`+strings.Repeat("(.*)", 16)+"y", 200),
		"long":                  {"re:" + strings.Repeat("(x*)*", 4000)},
		"too many":              repeat("re:a", 257),
		"none":                  {"lm_head", "re:(unclosed"},
		"escape codes":          {"re:\x1b[31m"},
		"a count":               {"re:x{100000000}"},
		"counts of counts":      {"re:((x{1000}){1000}){1000}"},
		"a count that is large": {"re:x{99999999999999999999}"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			before := memory.TotalAlloc
			ignored, err := mtp.Ignored(entries, strings.Repeat("x", 64))
			runtime.ReadMemStats(&memory)
			require.ErrorIs(t, err, mtp.ErrPattern)
			require.Less(t, len(err.Error()), 600)
			require.NoError(t, plainText(err.Error()))
			require.False(t, ignored)
			require.Less(t, time.Since(start), 5*time.Second)
			require.Less(t, memory.TotalAlloc-before, uint64(500<<20))
		})
	}
}

// TestQuantizationDecidesNothing: a quantization_config of any method, or of none, is a
// note that names it. How a tensor is read depends on the tensor alone.
func TestQuantizationDecidesNothing(t *testing.T) {
	for says, value := range map[string]string{
		"modelopt NVFP4":            `{"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}`,
		"compressed-tensors":        `{"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized", "config_groups": {"a": {"targets": ["Linear"]}}}`,
		"quark":                     `{"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int4"}}}`,
		"auto-round":                `{"quant_method": "auto-round", "bits": 4}`,
		"gptq":                      `{"quant_method": "gptq", "bits": 4, "group_size": 128}`,
		"awq":                       `{"quant_method": "awq"}`,
		"bitsandbytes":              `{"quant_method": "bitsandbytes", "load_in_4bit": true}`,
		"names no quant_method":     `{"group_size": 64, "bits": 4}`,
		`"a\nb"`:                    `{"quant_method": "a\nb"}`,
		"not a string":              `{"quant_method": 3}`,
		"not an object":             `"fp8"`,
		"":                          `{"quant_method": "fp8", "fmt": "e5m2", "activation_scheme": "dynamic"}`,
		"without a block":           `{"quant_method": "mxfp8"}`,
		"with a block of its own":   `{"quant_method": "mxfp8", "weight_block_size": [64, 64], "scale_fmt": "float"}`,
		"with layers of numbers":    `{"quant_method": "mxfp8", "ignored_layers": [3, "", null]}`,
		"with layers that are none": `{"quant_method": "mxfp8", "ignored_layers": {"a": 1}}`,
	} {
		t.Run(says, func(t *testing.T) {
			for _, format := range []string{"BF16", "MXFP8"} {
				files := synthetic{format: format, config: []edit{set("quantization_config", value)}}.files(t)
				_, report, err := mtp.InspectFS(files, mtp.Options{})
				require.NoError(t, err)
				_, plain, err := mtp.InspectFS(synthetic{format: format, config: []edit{remove("quantization_config")}}.files(t), mtp.Options{})
				require.NoError(t, err)
				require.Equal(t, plain.Formats, report.Formats)
				notes := strings.Join(report.Notes, "\n")
				if strings.HasPrefix(says, "not ") {
					require.Contains(t, notes, "names no quant_method")
				} else if !strings.HasPrefix(says, "with") && says != "" {
					require.Contains(t, notes, says)
					require.Regexp(t, "what a tensor is stored as decides|read as stored", notes)
				}
			}
		})
	}
}

// TestModelOptConfig: hf_quant_config.json is a note too, whatever is in it.
func TestModelOptConfig(t *testing.T) {
	for text, says := range map[string]string{
		`{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}`: "hf_quant_config.json says NVFP4",
		`{`:                                      "hf_quant_config.json says something that cannot be read",
		`{"quantization": {"quant_algo": null}}`: "hf_quant_config.json says something that cannot be read",
		strings.Repeat(" ", 2<<20):               "hf_quant_config.json says something that cannot be read",
	} {
		files := synthetic{}.files(t)
		files["hf_quant_config.json"] = &fstest.MapFile{Data: []byte(text)}
		_, report, err := mtp.InspectFS(files, mtp.Options{})
		require.NoError(t, err)
		require.Contains(t, report.Notes[0], says)
	}
}

// TestSlowPatternIsANote: what ignored_layers says changes nothing that is
// loaded, so a pattern without an answer in time must not keep a head from
// loading.
func TestSlowPatternIsANote(t *testing.T) {
	slow := synthetic{format: "MXFP8", config: []edit{
		set("quantization_config.ignored_layers", `["re:(.*a|.*b|.*c|.*d|.*e|.*o)*(?=!)!"]`),
	}}
	_, report, err := mtp.InspectFS(slow.files(t), mtp.Options{})
	require.NoError(t, err)
	require.Len(t, report.Notes, 1)
	require.Contains(t, report.Notes[0], "ignored_layers is not compared with what is stored")
}
