package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/internal/rope"
)

func TestParseConfigRope(t *testing.T) {
	plain := rope.Rule{Theta: 5e6, Dim: 64, Type: "default", MaxPosition: 1048576}
	yarn := func(factor float64, original int, fast, slow float64) rope.Rule {
		r := plain
		r.Type, r.Factor, r.OriginalMaxPosition, r.BetaFast, r.BetaSlow = "yarn", factor, original, fast, slow
		return r
	}
	linear := plain
	linear.Type, linear.Factor = "linear", 2
	fourfold := yarn(4, 524288, 32, 1)
	const yarnKeys = `"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 524288`
	tests := []struct {
		name      string
		edits     []edit
		want      rope.Rule
		factor    float64 // of cos and sin
		positions int
	}{
		{"null", []edit{set("rope_scaling", "null")}, plain, 1, 1048576},
		{"default", []edit{set("rope_scaling", `{"rope_type": "default"}`)}, plain, 1, 1048576},
		{"everything in rope_parameters",
			[]edit{remove("rope_theta"), remove("rotary_dim"), remove("partial_rotary_factor"), set("rope_parameters", `{"rope_theta": 5e6, "partial_rotary_factor": 0.5}`)},
			plain, 1, 1048576},
		{"linear", []edit{set("rope_scaling", `{"type": "linear", "factor": 2}`)},
			linear, 1, 2097152},
		{"yarn", []edit{set("rope_scaling", "{"+yarnKeys+"}")}, fourfold, 1.1386294361119891, 2097152},
		{"yarn, both spellings of the type", []edit{set("rope_scaling", "{"+yarnKeys+`, "type": "yarn"}`)}, fourfold, 1.1386294361119891, 2097152},
		{"yarn in rope_parameters", []edit{set("rope_parameters", "{"+yarnKeys+`, "rope_theta": 5000000}`)}, fourfold, 1.1386294361119891, 2097152},
		{"yarn, attention_factor given", []edit{set("rope_scaling", "{"+yarnKeys+`, "attention_factor": 1.5, "mscale": 2, "mscale_all_dim": 1}`)}, fourfold, 1.5, 2097152},
		{"yarn, equal mscales", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 0.5, "mscale_all_dim": 0.5}`)}, fourfold, 1, 2097152},
		{"yarn, mscale alone", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 0.5}`)}, fourfold, 1.1386294361119891, 2097152},
		{"yarn, mscale_all_dim zero", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 0.5, "mscale_all_dim": 0}`)}, fourfold, 1.1386294361119891, 2097152},
		{"yarn, mscales that differ", []edit{set("rope_scaling", "{"+yarnKeys+`, "mscale": 2, "mscale_all_dim": 1}`)},
			fourfold, 1.2772588722239782 / 1.1386294361119891, 2097152},
		{"yarn, over e", []edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 2.718281828459045, "original_max_position_embeddings": 524288}`)},
			yarn(2.718281828459045, 524288, 32, 1), 1.1, 1425163},
		{"yarn, mscale below one", []edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 40, "original_max_position_embeddings": 4096, "mscale": 0.707, "mscale_all_dim": 1}`)},
			yarn(40, 4096, 32, 1), 1.2608037774058553 / 1.3688879454113936, 1048576},
		{"yarn, original range absent", []edit{set("rope_scaling", `{"rope_type": "yarn", "factor": 1, "beta_fast": 16, "beta_slow": 2.5}`)},
			yarn(1, 1048576, 16, 2.5), 1, 1048576},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := mtp.ParseConfig(editedConfig(t, releasedConfig, test.edits...))
			require.NoError(t, err)
			require.InDelta(t, test.factor, c.Attention.Rope.AttentionFactor, 1e-15)
			require.Equal(t, test.want.Frequencies(), c.Attention.Rope.Frequencies)
			require.Equal(t, test.positions, c.Attention.Rope.Positions)
		})
	}
}
