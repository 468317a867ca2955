package mtp_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

func quantization(t testing.TB, ignored ...string) *mtp.Quantization {
	t.Helper()
	list, err := json.Marshal(ignored)
	require.NoError(t, err)
	c, err := mtp.ParseConfig(editedConfig(t, releasedConfig, set("quantization_config.ignored_layers", string(list))))
	require.NoError(t, err)
	return c.Quantization()
}

func TestQuantizationIgnored(t *testing.T) {
	const layer = "model.mtp.layers.0.transformer_layer"
	tests := []struct {
		name, entry, module string
		want                bool
	}{
		{"equal", "lm_head", "lm_head", true},
		{"below", layer + ".block_sparse_moe", layer + ".block_sparse_moe.gate", true},
		{"not on a dotted boundary", layer + ".block_sparse_moe.ga", layer + ".block_sparse_moe.gate", false},
		{"layer 1 is no prefix of layer 10", "model.mtp.layers.1", "model.mtp.layers.10.eh_proj", false},
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
			got, err := quantization(t, test.entry).Ignored(test.module)
			require.NoError(t, err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestQuantizationIgnoredNothing(t *testing.T) {
	got, err := quantization(t).Ignored("lm_head")
	require.NoError(t, err)
	require.False(t, got)
}

// A pattern that backtracks for ever is an error that names it, not a hang.
func TestQuantizationIgnoredTimeout(t *testing.T) {
	const hostile = `re:(x+x+)+(?=y)y`
	ignored, err := quantization(t, hostile).Ignored(strings.Repeat("x", 64))
	require.ErrorIs(t, err, mtp.ErrPattern)
	require.ErrorContains(t, err, hostile)
	require.False(t, ignored)
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
