package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/mtp"
)

func TestParseConfigRope(t *testing.T) {
	plain := attention.Rope{Theta: 5e6, Dim: 64, Type: "default", MaxPosition: 1048576, AttentionFactor: 1}
	with := func(change func(r *attention.Rope)) attention.Rope {
		r := plain
		change(&r)
		return r
	}
	yarn := func(attentionFactor float64) attention.Rope {
		return with(func(r *attention.Rope) {
			r.Type, r.Factor, r.OriginalMaxPosition = "yarn", 4, 524288
			r.BetaFast, r.BetaSlow, r.AttentionFactor = 32, 1, attentionFactor
		})
	}
	const yarnKeys = `"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 524288`
	tests := []struct {
		name      string
		edits     []edit
		want      attention.Rope
		positions int
	}{
		{"null", []edit{set("rope_scaling", "null")}, plain, 1048576},
		{"default", []edit{set("rope_scaling", `{"rope_type": "default"}`)}, plain, 1048576},
		{"everything in rope_parameters",
			[]edit{remove("rope_theta"), remove("rotary_dim"), remove("partial_rotary_factor"), set("rope_parameters", `{"rope_theta": 5e6, "partial_rotary_factor": 0.5}`)},
			plain, 1048576},
		{"linear", []edit{set("rope_scaling", `{"type": "linear", "factor": 2}`)},
			with(func(r *attention.Rope) { r.Type, r.Factor = "linear", 2 }), 2097152},
		{"yarn", []edit{set("rope_scaling", "{"+yarnKeys+"}")}, yarn(1.1386294361119891), 2097152},
		{"yarn, both spellings of the type", []edit{set("rope_scaling", "{"+yarnKeys+`, "type": "yarn"}`)}, yarn(1.1386294361119891), 2097152},
		{"yarn in rope_parameters", []edit{set("rope_parameters", "{"+yarnKeys+`, "rope_theta": 5000000}`)}, yarn(1.1386294361119891), 2097152},
		{"yarn, attention_factor given", []edit{set("rope_scaling", "{"+yarnKeys+`, "attention_factor": 1.5, "mscale": 2, "mscale_all_dim": 1}`)}, yarn(1.5), 2097152},
		{"yarn, equal mscales", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 0.5, "mscale_all_dim": 0.5}`)}, yarn(1), 2097152},
		{"yarn, mscale alone", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 0.5}`)}, yarn(1.1386294361119891), 2097152},
		{"yarn, mscale_all_dim zero", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 0.5, "mscale_all_dim": 0}`)}, yarn(1.1386294361119891), 2097152},
		{"yarn, mscales that differ", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 2, "mscale_all_dim": 1}`)},
			yarn(1.2772588722239782 / 1.1386294361119891), 2097152},
		{"yarn, over e", []edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 2.718281828459045, "original_max_position_embeddings": 524288}`)},
			with(func(r *attention.Rope) {
				r.Type, r.Factor, r.OriginalMaxPosition = "yarn", 2.718281828459045, 524288
				r.BetaFast, r.BetaSlow, r.AttentionFactor = 32, 1, 1.1
			}), 1425163},
		{"yarn, mscale below one", []edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 0.707, "mscale_all_dim": 1}`)},
			with(func(r *attention.Rope) {
				r.Type, r.Factor, r.OriginalMaxPosition = "yarn", 40, 4096
				r.BetaFast, r.BetaSlow, r.AttentionFactor = 32, 1, 1.2608037774058553/1.3688879454113936
			}), 1048576},
		{"yarn, original range absent", []edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 1, "beta_fast": 16, "beta_slow": 2.5}`)},
			with(func(r *attention.Rope) {
				r.Type, r.Factor, r.OriginalMaxPosition = "yarn", 1, 1048576
				r.BetaFast, r.BetaSlow = 16, 2.5
			}), 1048576},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := mtp.ParseConfig(editedConfig(t, releasedConfig, test.edits...))
			require.NoError(t, err)
			require.InDelta(t, test.want.AttentionFactor, c.Attention.Rope.AttentionFactor, 1e-15)
			c.Attention.Rope.AttentionFactor = test.want.AttentionFactor
			require.Equal(t, test.want, c.Attention.Rope)
			require.Equal(t, test.positions, c.Attention.Rope.Positions())
		})
	}
}
