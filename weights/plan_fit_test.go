package weights

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestPlanAccepts: what a checkpoint may look like.
func TestPlanAccepts(t *testing.T) {
	// as stores a tensor in another format, with its scales after it.
	as := func(tensor string, rows, cols int, f Format, scale safetensors.Dtype) func(*synthetic) {
		return func(s *synthetic) {
			remove(tensor, tensor+"_scale_inv")(s)
			add(zeros(tensor, formats[f].weight, rows, cols))(s)
			if r, c := f.scaleShape(rows, cols); f.quantized() {
				add(zeros(tensor+"_scale_inv", scale, r, c))(s)
			}
		}
	}
	vector := func(d safetensors.Dtype) func(*synthetic) {
		return change(tensor0+"enorm.weight", func(p *part) { *p = zeros(p.name, d, 64) })
	}
	rename := func(from, to string) func(*synthetic) { return change(from, func(p *part) { p.name = to }) }
	kScale, vScale := attnTensor+"k_proj.k_scale", attnTensor+"v_proj.v_scale"
	tests := []struct {
		name string
		do   func(*synthetic)
	}{
		{"as it is", func(*synthetic) {}},
		{"F32 vector", vector(safetensors.F32)},
		{"F16 vector", vector(safetensors.F16)},
		{"BF16 vector", vector(safetensors.BF16)},
		{"F32 matrix", as(ehProj, 64, 128, F32, "")},
		{"F16 matrix", as(ehProj, 64, 128, F16, "")},
		{"BF16 matrix beside a config with blocks", as(ehProj, 64, 128, BF16, "")},
		{"U8 scales", as(ehProj, 64, 128, MXFP8, safetensors.U8)},
		{"E8M0 scales", as(ehProj, 64, 128, MXFP8, "F8_E8M0")},
		{"F32 scales of blocks", as(ehProj, 64, 128, FP8F32, safetensors.F32)},
		{"BF16 scales of blocks", as(ehProj, 64, 128, fp8BF16, safetensors.BF16)},
		{"scales as the engine calls them", rename(ehProj+"_scale_inv", ehProj+"_scale")},
		{"bundled names", func(s *synthetic) {
			for i := range s.parts {
				s.parts[i].name = bundledPrefix + s.parts[i].name
			}
		}},
		{"no KV scales", remove(kScale, vScale)},
		{"KV scale of one element", change(kScale, func(p *part) { *p = zeros(p.name, safetensors.F32, 1) })},
		{"one KV scale for both", func(s *synthetic) {
			remove(vScale)(s)
			rename(kScale, attnTensor[:len(attnTensor)-1]+".kv_scale")(s)
		}},
		{"KV scale of the layer", rename(vScale, attnTensor+"v_scale")},
		{"another MTP layer", add(zeros("model.mtp.layers.1.enorm.weight", safetensors.BF16, 64))},
		{"tensors of the target", func(s *synthetic) {
			add(bytePart("model.layers.0.mlp.weight", "x"))(s)
			add(bytePart("lm_head.weight", "x"))(s)
			add(bytePart("lm_head.bias", "x"))(s)
			add(bytePart("vision_tower.mtp.weight", "x"))(s)
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
			test.do(s)
			plan, err := planOf(t, s)
			require.NoError(t, err)
			require.NotEmpty(t, plan.Report().params)
		})
	}
}

// TestPlanTakesNoINT8: no checkpoint stores a format that is made in memory, though its
// dtypes be there.
func TestPlanTakesNoINT8(t *testing.T) {
	_, err := planOf(t, synthesize(headOf(t, smallHead, Parallel{}), always(INT8)))
	require.ErrorIs(t, err, ruleWrongDtype)
	require.ErrorContains(t, err, "got I8 with BF16 scales, want F32, F16, BF16, F8_E4M3 or U8")
}

// TestPlanReportsTheFirstOfAKind: a checkpoint with thousands of tensors too many has an
// error of a readable length, and what else is wrong is in it.
func TestPlanReportsTheFirstOfAKind(t *testing.T) {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	remove(ehProj, ehProj+"_scale_inv")(s)
	for i := range 3 * maxProblems {
		add(bytePart(fmt.Sprintf("model.mtp.layers.0.more%03d", i), "x"))(s)
	}
	_, err := planOf(t, s)
	require.Len(t, Problems(err), 1+maxProblems+1)
	require.ErrorIs(t, err, ErrMissing)
	require.EqualError(t, Problems(err)[1+maxProblems], "weights: 200 more: no parameter takes the tensor")
}

// TestPlanNamesTensorsAsTheCheckpointDoes: what is missing from a bundled
// checkpoint is missing under its bundled name.
func TestPlanNamesTensorsAsTheCheckpointDoes(t *testing.T) {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	remove(ehProj, ehProj+"_scale_inv")(s)
	for i := range s.parts {
		s.parts[i].name = bundledPrefix + s.parts[i].name
	}
	_, err := planOf(t, s)
	require.Equal(t, bundledPrefix+ehProj, auditOf(t, err)[0].Tensor)
}

// TestPlanRefusesColumnsInsideABlock: a share of columns may not cut a scale,
// while a share of rows may.
func TestPlanRefusesColumnsInsideABlock(t *testing.T) {
	params := func(p Parallel) []Param { return headOf(t, smallHead, p) }
	tests := []struct {
		name     string
		format   Format
		parallel Parallel
		tensors  []string // that cannot be cut
	}{
		{"MXFP8, all", MXFP8, Parallel{}, nil},
		{"MXFP8, o_proj at 32 and w2 at 16", MXFP8, Parallel{Tensor: Shard{0, 2}}, []string{"experts.0.w2", "experts.1.w2"}},
		{"MXFP8, the last rank", MXFP8, Parallel{Tensor: Shard{1, 2}}, []string{"experts.0.w2", "experts.1.w2"}},
		{"MXFP8, o_proj at 16 too", MXFP8, Parallel{Tensor: Shard{1, 4}, Expert: Shard{0, 2}}, []string{"o_proj"}},
		{"FP8, o_proj at 32", FP8F32, Parallel{Tensor: Shard{1, 2}, Expert: Shard{0, 2}}, []string{"o_proj"}},
		{"BF16", BF16, Parallel{Tensor: Shard{3, 4}}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := synthesize(params(Parallel{}), always(test.format))
			_, err := NewPlan(openHead(t, inMap(s.files(1))), params(test.parallel))
			if test.tensors == nil {
				require.NoError(t, err)
				return
			}
			problems := auditOf(t, err)
			require.Len(t, problems, len(test.tensors), "%v", err)
			for i, p := range problems {
				require.ErrorIs(t, p, ruleCutBlock)
				require.Contains(t, p.Tensor, test.tensors[i])
				require.Contains(t, p.Want, "multiples of the scale block")
			}
		})
	}
}

// TestPlanRefusesParameters that contradict themselves, all of them together.
func TestPlanRefusesParameters(t *testing.T) {
	const gateUp = "model.mtp.layers.0.transformer_layer.block_sparse_moe.shared_experts."
	whole := func(name string) Part {
		return Part{Tensor: gateUp + name + ".weight", Shape: []int{4, 8}, KeepRows: all(4), KeepCols: all(8)}
	}
	with := func(change func(p *Param, part *Part)) Param {
		p := Param{
			Name: strings.Replace(gateUp, ".mtp.", ".", 1) + "gate_up_proj.weight", Parts: []Part{whole("gate_proj"), whole("up_proj")},
		}
		change(&p, &p.Parts[1])
		return p
	}
	bad := map[string]Param{
		"no parts":             with(func(p *Param, _ *Part) { p.Parts = nil }),
		"no rows":              with(func(_ *Param, part *Part) { part.Shape, part.KeepRows = []int{0, 8}, all(0) }),
		"negative rows":        with(func(_ *Param, part *Part) { part.Shape, part.KeepRows = []int{-1, 8}, all(0) }),
		"rows beyond an int32": with(func(_ *Param, part *Part) { part.Shape[0] = math.MaxInt32 + 1 }),
		"no columns":           with(func(_ *Param, part *Part) { part.Shape[1], part.KeepCols = 0, all(0) }),
		"negative columns": with(func(_ *Param, part *Part) {
			part.Shape[1], part.KeepRows, part.KeepCols = -1, interval{}, interval{-1, -1}
		}),
		"no columns nor a share": with(func(_ *Param, part *Part) { part.Shape[1], part.KeepRows, part.KeepCols = 0, interval{}, interval{} }),
		"columns beyond int32":   with(func(_ *Param, part *Part) { part.Shape[1] = math.MaxInt32 + 1 }),
		"share beyond the rows":  with(func(_ *Param, part *Part) { part.KeepRows[1]++ }),
		"share before the rows":  with(func(_ *Param, part *Part) { part.KeepRows[0]-- }),
		"share beyond columns":   with(func(_ *Param, part *Part) { part.KeepCols[1]++ }),
		"share runs backwards":   with(func(_ *Param, part *Part) { part.KeepRows = interval{3, 1} }),
		"other columns":          with(func(_ *Param, part *Part) { part.KeepCols[1]-- }),
		"rows of no columns":     with(func(p *Param, _ *Part) { p.Parts[0].KeepCols, p.Parts[1].KeepCols = interval{}, interval{} }),
		"vector beside a matrix": with(func(_ *Param, part *Part) { part.Shape = []int{4} }),
		"three dimensions":       with(func(_ *Param, part *Part) { part.Shape = []int{4, 8, 1} }),
		"the same part twice":    with(func(p *Param, part *Part) { p.Parts = append(p.Parts, *part) }),
		"vector of negative row": with(func(p *Param, _ *Part) { p.Parts[0].Shape, p.Parts[1].Shape = []int{-1}, []int{-1} }),
		"tensor of another name": with(func(_ *Param, part *Part) { part.Tensor = gateUp + "down_proj.weight" }),
		"tensor of no head":      with(func(_ *Param, part *Part) { part.Tensor = "model.norm.weight" }),
	}
	var all []Param
	for name, p := range bad {
		err := checkParams([]Param{p})
		require.ErrorIs(t, err, hip.ErrInput, name)
		require.ErrorContains(t, err, "weights: plan: params[0].")
		all = append(all, p)
	}
	_, err := NewPlan(&safetensors.Folder{}, all)
	require.GreaterOrEqual(t, len(Problems(err)), 2*len(bad)-1, "those of each, and that all have one name")
	require.NoError(t, checkParams([]Param{with(func(*Param, *Part) {})}))
	require.NoError(t, checkParams([]Param{with(func(_ *Param, part *Part) { part.KeepRows = interval{} })}), "a rank without a share")
	for _, p := range []Parallel{{}, {Tensor: Shard{1, 2}}, {Tensor: Shard{3, 4}, Expert: Shard{1, 2}}} {
		require.NoError(t, checkParams(headOf(t, smallHead, p)))
	}
}

func TestOpenCheckpointTakes(t *testing.T) {
	for name, want := range map[string]bool{
		"model.embed_tokens.weight": true, "language_model.lm_head.weight": true,
		"model.mtp.layers.0.enorm.weight": true, "language_model.model.mtp.layers.6.eh_proj.weight_scale_inv": true,
		"model.mtp.anything": true, "language_model.model.mtp.norm.weight": true,
		"model.layers.0.enorm.weight": false, "vision_tower.mtp.weight": false, "lm_head.weight_scale_inv": true,
		"language_model.language_model.lm_head.weight": false, "": false, strings.Repeat("x", 1000): false,
	} {
		require.Equal(t, want, needed(name), name)
	}
}

func TestRange(t *testing.T) {
	r := interval{3, 5}
	require.Equal(t, 2, r.Len())
	for _, test := range []struct {
		r      interval
		within bool
	}{
		{interval{0, 0}, true}, {interval{0, 5}, true}, {interval{5, 5}, true}, {interval{2, 4}, true},
		{interval{0, 6}, false}, {interval{-1, 2}, false}, {interval{4, 3}, false}, {interval{6, 6}, false},
	} {
		require.Equal(t, test.within, test.r.within(5), "%v", test.r)
	}
}
