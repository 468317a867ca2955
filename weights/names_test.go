package weights

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMTPLayer(t *testing.T) {
	tests := []struct {
		name  string
		layer int
		ok    bool
	}{
		{"model.mtp.layers.0.enorm.weight", 0, true},
		{"language_model.model.mtp.layers.12.enorm.weight", 12, true},
		{"x.mtp.layers.007.y", 7, true},
		{"x.mtp.layers.3.mtp.layers.4.y", 3, true},
		{"x.mtp.layers.a.mtp.layers.4.y", 4, true},
		{"x.mtp.layers.mtp.layers.4.y", 4, true},
		{"x.mtp.layers.3a.mtp.layers.4.y", 4, true},
		{"x.mtp.layers.3", 0, false},
		{"x.mtp.layers.", 0, false},
		{"x.mtp.layers..y", 0, false},
		{"x.mtp.layers.-1.y", 0, false},
		{"mtp.layers.3.y", 0, false},
		{"xmtp.layers.3.y", 0, false},
		{"model.layers.3.y", 0, false},
		{"x.mtp.layers.3\n.y", 0, false},
		{"x.mtp.layers.99999999999999999999.y", 0, false},
		{"x.mtp.layers.99999999999999999999.mtp.layers.1.y", 0, false},
		{"", 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			layer, ok := MTPLayer(test.name)
			require.Equal(t, test.ok, ok)
			require.Equal(t, test.layer, layer)
		})
	}
}

func TestMapName(t *testing.T) {
	tests := []struct{ name, want string }{
		{"model.embed_tokens.weight", "model.embed_tokens.weight"},
		{"language_model.model.embed_tokens.weight", "model.embed_tokens.weight"},
		{"lm_head.weight", "lm_head.weight"},
		{"language_model.lm_head.weight", "lm_head.weight"},
		{"model.mtp.layers.0.enorm.weight", "model.layers.0.enorm.weight"},
		{"language_model.model.mtp.layers.0.eh_proj.weight_scale_inv", "model.layers.0.eh_proj.weight_scale"},
		{"language_model.language_model.model.mtp.layers.0.x", "language_model.model.layers.0.x"},
		{"y.model.mtp.layers.0.x", "y.model.layers.0.x"},
		{"model.mtp.layers.0.mtp.x", "model.layers.0.x"},
		{"model.mtp.layers.mtp.mtp.x", "model.layers.mtp.x"},
		{"model.mtp.layersX", "model.layersX"},
		{"model.mtp.layers.0.weight_scale_inv.weight_scale_inv", "model.layers.0.weight_scale.weight_scale"},
		{"model.mtp.layers.0.weight_scale_invert", "model.layers.0.weight_scaleert"},
		{"language_model.language_model.lm_head.weight", ""},
		{"model.layers.0.self_attn.q_proj.weight_scale_inv", ""},
		{"model.norm.weight", ""},
		{"lm_head.weight_scale_inv", ""},
		{"mtp.layers.0.enorm.weight", ""},
		{"vision_tower.lm_head.weight", ""},
		{"", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, ok := MapName(test.name)
			require.Equal(t, test.want, got)
			require.Equal(t, test.want != "", ok)
		})
	}
}

func TestStacked(t *testing.T) {
	tests := []struct{ name, param, shardID string }{
		{"l.self_attn.q_proj.weight", "l.self_attn.qkv_proj.weight", "q"},
		{"l.self_attn.k_proj.weight_scale", "l.self_attn.qkv_proj.weight_scale", "k"},
		{"l.self_attn.v_proj.weight", "l.self_attn.qkv_proj.weight", "v"},
		{"l.self_attn.index_q_proj.weight", "l.self_attn.qkv_proj.weight", "index_q"},
		{"l.self_attn.index_k_proj.weight", "l.self_attn.qkv_proj.weight", "index_k"},
		{"l.block_sparse_moe.shared_experts.gate_proj.weight", "l.block_sparse_moe.shared_experts.gate_up_proj.weight", "0"},
		{"l.block_sparse_moe.shared_experts.up_proj.weight", "l.block_sparse_moe.shared_experts.gate_up_proj.weight", "1"},
		{"a.q_proj.b.q_proj", "a.qkv_proj.b.qkv_proj", "q"},
		{"l.block_sparse_moe.experts.0.gate_proj.weight", "", ""},
		{"l.block_sparse_moe.experts.0.q_proj.weight", "", ""},
		{"l.block_sparse_moe.shared_experts.down_proj.weight", "", ""},
		{"l.self_attn.o_proj.weight", "", ""},
		{"l.self_attn.q_norm.weight", "", ""},
		{"q_proj.weight", "", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			param, shardID, ok := stackedParam(test.name)
			require.Equal(t, test.param, param)
			require.Equal(t, test.shardID, shardID)
			require.Equal(t, test.param != "", ok)
		})
	}
}

func TestStackedParamsIsACopy(t *testing.T) {
	before := StackedParams()
	StackedParams()[0].Parts[0] = Part{}
	require.Equal(t, before, StackedParams())
	require.Len(t, before, 2)
	require.Len(t, before[0].Parts, 5)
	require.Len(t, before[1].Parts, 2)
}

func TestExpertParams(t *testing.T) {
	require.Equal(t, []Param{
		{Name: "experts.w13_", Parts: []Part{
			{Tensor: "experts.0.w1."}, {Tensor: "experts.0.w3."},
			{Tensor: "experts.1.w1."}, {Tensor: "experts.1.w3."},
		}},
		{Name: "experts.w2_", Parts: []Part{{Tensor: "experts.0.w2."}, {Tensor: "experts.1.w2."}}},
	}, ExpertParams(2))
	require.Empty(t, ExpertParams(0))
	require.Empty(t, ExpertParams(-1))
}

func TestExpert(t *testing.T) {
	tests := []struct {
		name, param string
		expert      int
		shardID     string
	}{
		{"experts.7.w1.weight", "experts.w13_weight", 7, "w1"},
		{"experts.7.w1.weight_scale", "experts.w13_weight_scale", 7, "w1"},
		{"l.block_sparse_moe.experts.127.w3.weight", "l.block_sparse_moe.experts.w13_weight", 127, "w3"},
		{"l.block_sparse_moe.experts.0.w2.weight_scale", "l.block_sparse_moe.experts.w2_weight_scale", 0, "w2"},
		{"experts.x.experts.3.w2.weight", "experts.x.experts.w2_weight", 3, "w2"},
		{"experts.07.w1.weight", "", 0, ""},
		{"experts.7.w4.weight", "", 0, ""},
		{"experts.7.w1", "", 0, ""},
		{"experts.-1.w1.weight", "", 0, ""},
		{"experts..w1.weight", "", 0, ""},
		{"experts.99999999999999999999.w1.weight", "", 0, ""},
		{"l.shared_experts.gate_proj.weight", "", 0, ""},
		{"l.block_sparse_moe.gate.weight", "", 0, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			param, expert, shardID, ok := expertParam(test.name)
			require.Equal(t, test.param, param)
			require.Equal(t, test.expert, expert)
			require.Equal(t, test.shardID, shardID)
			require.Equal(t, test.param != "", ok)
		})
	}
}

func TestRemapKVScale(t *testing.T) {
	const layer = "model.layers.0.transformer_layer"
	tests := []struct{ name, want string }{
		{layer + ".self_attn.kv_scale", layer + ".self_attn.attn.k_scale"},
		{layer + ".self_attn.k_proj.k_scale", layer + ".self_attn.attn.k_scale"},
		{layer + ".self_attn.v_proj.v_scale", layer + ".self_attn.attn.v_scale"},
		{layer + ".self_attn.k_scale", layer + ".self_attn.attn.k_scale"},
		{layer + ".self_attn.v_scale", layer + ".self_attn.attn.v_scale"},
		{layer + ".self_attn.v_proj.k_scale", layer + ".self_attn.v_proj.attn.k_scale"},
		{layer + ".self_attn.q_proj.v_scale", layer + ".self_attn.q_proj.attn.v_scale"},
		{layer + ".self_attn.k_proj.weight_scale", layer + ".self_attn.k_proj.weight_scale"},
		{layer + ".self_attn.q_scale", layer + ".self_attn.q_scale"},
		{layer + ".self_attn.k_scale.x", layer + ".self_attn.k_scale.x"},
		{"k_scale", "k_scale"},
		{"a.k_scale.k_scale", "a.attn.k_scale.attn.k_scale"},
		{"", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			known := map[string]bool{test.want: true}
			got, ok := RemapKVScale(test.name, func(param string) bool { return known[param] })
			require.True(t, ok)
			require.Equal(t, test.want, got)

			got, ok = RemapKVScale(test.name, func(string) bool { return false })
			if test.want == test.name {
				require.True(t, ok, "a name that is not remapped need not be known")
			} else {
				require.False(t, ok)
				require.Empty(t, got)
			}
		})
	}
}

// The released layout: three modules of 128 experts.
const (
	layoutModules = 3
	layoutExperts = 128
)

// layoutNames returns every tensor name of the layout, with the scales that an
// MXFP8 checkpoint has.
func layoutNames(prefix string) []string {
	matrices := []string{
		"eh_proj",
		"transformer_layer.self_attn.q_proj", "transformer_layer.self_attn.k_proj", "transformer_layer.self_attn.v_proj",
		"transformer_layer.self_attn.o_proj", "transformer_layer.self_attn.index_q_proj", "transformer_layer.self_attn.index_k_proj",
		"transformer_layer.block_sparse_moe.shared_experts.gate_proj", "transformer_layer.block_sparse_moe.shared_experts.up_proj",
		"transformer_layer.block_sparse_moe.shared_experts.down_proj",
	}
	for e := range layoutExperts {
		for _, w := range []string{"w1", "w2", "w3"} {
			matrices = append(matrices, "transformer_layer.block_sparse_moe.experts."+strconv.Itoa(e)+"."+w)
		}
	}
	plain := []string{
		"enorm.weight", "hnorm.weight", "final_layernorm.weight",
		"transformer_layer.input_layernorm.weight", "transformer_layer.post_attention_layernorm.weight",
		"transformer_layer.self_attn.q_norm.weight", "transformer_layer.self_attn.k_norm.weight",
		"transformer_layer.self_attn.index_q_norm.weight", "transformer_layer.self_attn.index_k_norm.weight",
		"transformer_layer.block_sparse_moe.gate.weight", "transformer_layer.block_sparse_moe.e_score_correction_bias",
	}
	names := []string{prefix + "model.embed_tokens.weight", prefix + "lm_head.weight"}
	for module := range layoutModules {
		in := prefix + "model.mtp.layers." + strconv.Itoa(module) + "."
		for _, name := range plain {
			names = append(names, in+name)
		}
		for _, name := range matrices {
			names = append(names, in+name+".weight", in+name+".weight_scale_inv")
		}
	}
	return names
}

// loadTarget is where one checkpoint tensor goes.
type loadTarget struct {
	param   string
	shardID string
	expert  int // -1 for a parameter that is not an expert's
}

// target maps a name by the functions that parse.
func target(mapped string) loadTarget {
	if param, shardID, ok := stackedParam(mapped); ok {
		return loadTarget{param, shardID, -1}
	}
	if param, e, shardID, ok := expertParam(mapped); ok {
		return loadTarget{param, shardID, e}
	}
	return loadTarget{mapped, "", -1}
}

// targetByTable maps a name by scanning the tables, as load_weights does.
func targetByTable(mapped string, stacked, experts []Param) loadTarget {
	if !strings.Contains(mapped, "block_sparse_moe.experts.") {
		for _, p := range stacked {
			for _, row := range p.Parts {
				if strings.Contains(mapped, row.Tensor) {
					_, id, _ := stackedParam(row.Tensor)
					return loadTarget{strings.ReplaceAll(mapped, row.Tensor, p.Name), id, -1}
				}
			}
		}
	}
	for _, p := range experts {
		for _, row := range p.Parts {
			if strings.Contains(mapped, row.Tensor) {
				_, e, id, _ := expertParam(row.Tensor)
				return loadTarget{strings.ReplaceAll(mapped, row.Tensor, p.Name), id, e}
			}
		}
	}
	return loadTarget{mapped, "", -1}
}

// wantTargets returns every part of every parameter of the layout, written
// down from the parameters' side.
func wantTargets() map[loadTarget]bool {
	targets := map[loadTarget]bool{{"model.embed_tokens.weight", "", -1}: true, {"lm_head.weight", "", -1}: true}
	for module := range layoutModules {
		in := fmt.Sprintf("model.layers.%d.", module)
		for _, name := range []string{
			"enorm", "hnorm", "final_layernorm", "transformer_layer.input_layernorm", "transformer_layer.post_attention_layernorm",
			"transformer_layer.self_attn.q_norm", "transformer_layer.self_attn.k_norm",
			"transformer_layer.self_attn.index_q_norm", "transformer_layer.self_attn.index_k_norm", "transformer_layer.block_sparse_moe.gate",
		} {
			targets[loadTarget{in + name + ".weight", "", -1}] = true
		}
		targets[loadTarget{in + "transformer_layer.block_sparse_moe.e_score_correction_bias", "", -1}] = true
		for _, kind := range []string{"weight", "weight_scale"} {
			moe := in + "transformer_layer.block_sparse_moe."
			for _, name := range []string{in + "eh_proj.", in + "transformer_layer.self_attn.o_proj.", moe + "shared_experts.down_proj."} {
				targets[loadTarget{name + kind, "", -1}] = true
			}
			for _, id := range []string{"q", "k", "v", "index_q", "index_k"} {
				targets[loadTarget{in + "transformer_layer.self_attn.qkv_proj." + kind, id, -1}] = true
			}
			for _, id := range []string{"0", "1"} {
				targets[loadTarget{moe + "shared_experts.gate_up_proj." + kind, id, -1}] = true
			}
			for e := range layoutExperts {
				targets[loadTarget{moe + "experts.w13_" + kind, "w1", e}] = true
				targets[loadTarget{moe + "experts.w2_" + kind, "w2", e}] = true
				targets[loadTarget{moe + "experts.w13_" + kind, "w3", e}] = true
			}
		}
	}
	return targets
}

func TestLayoutHitsEveryTargetOnce(t *testing.T) {
	stacked, experts := StackedParams(), ExpertParams(layoutExperts)
	for _, prefix := range []string{"", "language_model."} {
		hits := make(map[loadTarget]string)
		for _, name := range layoutNames(prefix) {
			mapped, ok := MapName(name)
			require.True(t, ok, name)
			if layer, ok := MTPLayer(name); ok {
				require.Contains(t, mapped, fmt.Sprintf("model.layers.%d.", layer))
			} else {
				require.NotContains(t, mapped, "layers")
			}
			to := target(mapped)
			if byTable := targetByTable(mapped, stacked, experts); to != byTable {
				require.Equal(t, byTable, to, "the tables and the functions that parse disagree about %s", name)
			}
			require.Empty(t, hits[to], "%s and %s have one target", hits[to], name)
			hits[to] = name

			kept, ok := RemapKVScale(mapped, func(string) bool { return false })
			require.True(t, ok && kept == mapped, "%s is not a scale of the cache", mapped)
		}
		require.Equal(t, wantTargets(), maps.Collect(func(yield func(loadTarget, bool) bool) {
			for to := range hits {
				if !yield(to, true) {
					return
				}
			}
		}))
	}
}

// FuzzNames: any name ends in an answer, and the answers agree with the tables.
func FuzzNames(f *testing.F) {
	const routed = "language_model.model.mtp.layers.0.transformer_layer.block_sparse_moe.experts.3.w2."
	for _, name := range slices.Concat(layoutNames("language_model.")[:40], []string{
		"x.mtp.layers.3.mtp.layers.4.y", "experts.07.w1.x", "a.experts.1.w1.experts.1.w1.b", "l.self_attn.k_proj.k_scale",
		routed + "weight_packed", routed + "weight_scale", routed + "weight_global_scale", routed + "weight_scale_2",
		routed + "input_global_scale", routed + "input_scale", routed + "weight_packed.weight_scale_2", routed + "weight_scale_2_inv",
	}) {
		f.Add(name)
	}
	stacked, experts := StackedParams(), ExpertParams(20)
	f.Fuzz(func(t *testing.T, name string) {
		if layer, ok := MTPLayer(name); ok {
			require.GreaterOrEqual(t, layer, 0)
			require.Contains(t, name, ".mtp.layers.")
		}
		if mapped, ok := MapName(name); ok {
			require.NotContains(t, mapped, "weight_scale_inv")
		}
		weight, r := roleOf(name)
		require.True(t, r == roleWeight || strings.HasSuffix(weight, weightSuffix), "a scale is that of a weight")
		if again, role := roleOf(weight); r != roleWeight {
			require.Equal(t, weight, again)
			require.Equal(t, roleWeight, role)
		}
		// A name of two experts is none of a checkpoint: there the table's order
		// decides, and the order of the name for the functions that parse.
		if strings.Count(name, "experts.") > 1 {
			return
		}
		if _, e, _, ok := expertParam(name); !ok || e < 20 {
			require.Equal(t, targetByTable(name, stacked, experts), target(name))
		}
	})
}
