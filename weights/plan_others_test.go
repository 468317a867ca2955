package weights

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// targetParams are some of a target's, beside the head in the same checkpoint.
func targetParams() []Param {
	rows := func(tensor string, n int) Part {
		return Part{Tensor: tensor, Shape: []int{n, 64}, KeepRows: all(n), KeepCols: all(64)}
	}
	return []Param{
		{Name: "lm_head.weight", Parts: []Part{rows("lm_head.weight", 65)}},
		{Name: "model.norm.weight", Parts: []Part{{Tensor: "model.norm.weight", Shape: []int{64}, KeepRows: all(64)}}},
		{Name: "layer 0, qkv", Parts: []Part{rows("model.layers.0.self_attn.q_proj.weight", 48), rows("model.layers.0.self_attn.k_proj.weight", 32)}},
	}
}

// bundledTarget is a checkpoint of the target's parameters and of a head.
func bundledTarget(t *testing.T) *synthetic {
	t.Helper()
	s := synthesize(targetParams(), always(BF16))
	quantized := synthesize(targetParams()[2:], func(string) Format { return MXFP8 })
	s.parts = append(s.parts[:2], quantized.parts...)
	for i := range s.parts {
		s.parts[i].name = bundledPrefix + s.parts[i].name
	}
	s.parts = append(s.parts, zeros(bundledPrefix+"model.mtp.layers.0.enorm.weight", safetensors.BF16, 64), zeros("vision_tower.x", safetensors.BF16, 1))
	for tensor, values := range quantized.values {
		s.values[tensor] = values
	}
	return s
}

func planTarget(t *testing.T, s *synthetic) (*Plan, error) {
	t.Helper()
	folder, err := safetensors.OpenFolder(inMap(s.files(2)), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, folder.Close()) })
	return NewPlan(folder, targetParams())
}

// TestPlanOfATarget: parameters that are not the head's are found by the names of their
// tensors, stacked and loaded as the head's are.
func TestPlanOfATarget(t *testing.T) {
	s := bundledTarget(t)
	plan, err := planTarget(t, s)
	require.NoError(t, err)
	require.Equal(t, map[string]int{"language_model.model.mtp": 1, "vision_tower.x": 1}, plan.Report().Ignored)
	require.Equal(t, MXFP8, plan.Format("layer 0, qkv"))
	d := hip.NewReference()
	defer d.Close()
	loaded, err := plan.Load(t.Context(), d, false, false, nil)
	require.NoError(t, err)
	defer loaded.Close()
	_, norm := loaded.Vector("model.norm.weight")
	require.Equal(t, s.values["model.norm.weight"], norm)

	identity := make([]float32, 64*64)
	for i := range 64 {
		identity[65*i] = 1
	}
	x, err := hip.Upload(d, identity)
	require.NoError(t, err)
	y, err := d.Alloc(64 * 80 * 4)
	require.NoError(t, err)
	require.NoError(t, loaded.Matrix("layer 0, qkv").Product(d, y, x, 64))
	got := make([]float32, 64*80)
	require.NoError(t, hip.ReadOf(d, got, y))
	want := append(append([]float32(nil), s.values["model.layers.0.self_attn.q_proj.weight"]...), s.values["model.layers.0.self_attn.k_proj.weight"]...)
	for c := range 64 {
		for r := range 80 {
			require.Equal(t, want[64*r+c], got[80*c+r], "row %d, column %d", r, c)
		}
	}
}

// TestPlanOfATargetIsExact: what is missing, left over or does not fit is named.
func TestPlanOfATargetIsExact(t *testing.T) {
	const layer = "language_model.model.layers.0.self_attn."
	for _, f := range []fault{
		{"missing", remove(layer+"k_proj.weight", layer+"k_proj.weight_scale_inv"), layer + "k_proj.weight", ruleMissing, []string{"(for layer 0, qkv)"}},
		{"missing vector", remove("language_model.model.norm.weight"), "language_model.model.norm.weight", ruleMissing, nil},
		{"no scale", remove(layer + "q_proj.weight_scale_inv"), layer + "q_proj.weight", ruleMissingScale, nil},
		{"no weight", remove(layer + "q_proj.weight"), layer + "q_proj.weight_scale_inv", ruleStrayScale, nil},
		{"another shape", change(layer+"q_proj.weight", func(p *part) { *p = zeros(p.name, p.dtype, 64, 48) }), layer + "q_proj.weight", ruleWrongShape, nil},
		{"a layer more", add(zeros("language_model.model.layers.1.input_layernorm.weight", safetensors.BF16, 64)), "language_model.model.layers.1.input_layernorm.weight", ruleUnexpected, nil},
		{"a tensor more", add(zeros("model.norm.bias", safetensors.BF16, 64)), "model.norm.bias", ruleUnexpected, nil},
		{"given twice", add(zeros("model.norm.weight", safetensors.BF16, 64)), "model.norm.weight", ruleLoadedTwice, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := bundledTarget(t)
			f.do(s)
			_, err := planTarget(t, s)
			all := Problems(err)
			require.Len(t, all, 1, "%v", err)
			require.ErrorIs(t, all[0], f.rule)
			require.True(t, strings.HasPrefix(all[0].Error(), "weights: "+f.tensor+": "), all[0].Error())
			for _, text := range f.contains {
				require.ErrorContains(t, err, text)
			}
		})
	}
	for name, change := range map[string]func(p []Param){
		"a tensor of the head beside another's": func(p []Param) { p[2].Parts[1].Tensor = "model.mtp.layers.0.eh_proj.weight" },
		"a tensor twice":                        func(p []Param) { p[2].Parts[1].Tensor = p[2].Parts[0].Tensor },
		"a tensor for two parameters":           func(p []Param) { p[1].Parts[0].Tensor = p[2].Parts[0].Tensor },
		"no name":                               func(p []Param) { p[1].Parts[0].Tensor = "" },
	} {
		p := targetParams()
		change(p)
		require.ErrorIs(t, checkParams(p), hip.ErrInput, name)
	}
}
