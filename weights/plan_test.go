package weights

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

const tensor0 = "model.mtp." + layer0

// fault is one thing done to an intact checkpoint, and what a plan says of it.
type fault struct {
	name     string
	do       func(s *synthetic)
	tensor   string
	rule     ruleText
	contains []string
}

// change replaces the tensor by what f makes of it.
func change(tensor string, f func(p *part)) func(*synthetic) {
	return func(s *synthetic) { f(&s.parts[s.index(tensor)]) }
}

func remove(tensors ...string) func(*synthetic) {
	return func(s *synthetic) {
		s.parts = slices.DeleteFunc(s.parts, func(p part) bool { return slices.Contains(tensors, p.name) })
	}
}

func add(p part) func(*synthetic) { return func(s *synthetic) { s.parts = append(s.parts, p) } }

func zeros(name string, d safetensors.Dtype, shape ...int) part {
	n := d.Bits() / 8
	for _, dim := range shape {
		n *= dim
	}
	return part{name, d, shape, strings.Repeat("\x00", n)}
}

const (
	attnTensor = "model.mtp." + attn0
	moeTensor  = "model.mtp." + moe0
	ehProj     = tensor0 + "eh_proj.weight"
)

// faults of smallHead in the formats of mixed; each is of another tensor.
var faults = []fault{
	{"missing matrix", remove("model.embed_tokens.weight"), "model.embed_tokens.weight", ruleMissing, nil},
	{"missing vector", remove(tensor0 + "enorm.weight"), tensor0 + "enorm.weight", ruleMissing, []string{"(for model.layers.0.enorm.weight)"}},
	{"missing part of a stack", remove(attnTensor + "v_proj.weight"), attnTensor + "v_proj.weight", ruleMissing, []string{"qkv_proj.weight"}},
	{"missing part of an expert", remove(moeTensor + "experts.1.w3.weight"), moeTensor + "experts.1.w3.weight", ruleMissing, []string{"experts.w13_weight"}},
	{"scale without weight", remove(attnTensor + "q_proj.weight"), attnTensor + "q_proj.weight_scale_inv", ruleStrayScale, []string{"want a weight beside it"}},
	{"weight without scale", remove(attnTensor + "o_proj.weight_scale_inv"), attnTensor + "o_proj.weight", ruleMissingScale, []string{"F8_E4M3"}},
	{"scale of a weight that has none", add(zeros(attnTensor+"k_proj.weight_scale_inv", safetensors.U8, 32, 2)), attnTensor + "k_proj.weight", ruleStrayScale, []string{"BF16 with U8 scales", "no scales beside BF16"}},
	{"scale of a vector", add(zeros(attnTensor+"q_norm.weight_scale_inv", safetensors.U8, 16, 1)), attnTensor + "q_norm.weight", ruleStrayScale, nil},
	{"scale of another dtype", change(moeTensor+"experts.0.w1.weight_scale_inv", func(p *part) { *p = zeros(p.name, "I8", p.shape...) }),
		moeTensor + "experts.0.w1.weight", ruleWrongDtype, []string{"got F8_E4M3 with I8 scales", "want U8, F8_E8M0, F32 or BF16 scales"}},
	{"scale of another shape", change(moeTensor+"experts.0.w2.weight_scale_inv", func(p *part) { *p = zeros(p.name, p.dtype, 64, 2) }),
		moeTensor + "experts.0.w2.weight_scale_inv", ruleWrongShape, []string{"got [64 2], want [64 1]"}},
	{"transposed", change(ehProj, func(p *part) { *p = zeros(p.name, p.dtype, 128, 64) }), ehProj, ruleWrongShape, []string{"got [128 64], want [64 128]"}},
	{"matrix of integers", change(moeTensor+"experts.0.w3.weight", func(p *part) { *p = zeros(p.name, "I32", p.shape...) }),
		moeTensor + "experts.0.w3.weight", ruleWrongDtype, []string{"got I32", "want F32, F16, BF16, F8_E4M3 or U8"}},
	{"vector of fp8", change(moeTensor+"e_score_correction_bias", func(p *part) { *p = zeros(p.name, safetensors.F8E4M3, 2) }),
		moeTensor + "e_score_correction_bias", ruleWrongDtype, []string{"want F32, F16 or BF16"}},
	{"scalar of another shape", change(attnTensor+"k_proj.k_scale", func(p *part) { *p = zeros(p.name, safetensors.F32, 2) }), attnTensor + "k_proj.k_scale", ruleWrongShape, []string{"got [2], want []"}},
	{"expert too many", add(zeros(moeTensor+"experts.2.w1.weight", safetensors.BF16, 32, 64)), moeTensor + "experts.2.w1.weight", ruleUnexpected, nil},
	{"embedding of another kind", add(bytePart("model.embed_tokens.bias", "x")), "model.embed_tokens.bias", ruleUnexpected, nil},
	{"head's own, of no layer", add(bytePart("language_model.model.mtp.norm.weight", "x")), "language_model.model.mtp.norm.weight", ruleUnexpected, nil},
	{"under an unknown prefix", add(bytePart("draft.model.mtp.layers.0.enorm.weight", "x")), "draft.model.mtp.layers.0.enorm.weight", ruleUnexpected, nil},
	{"fused already", add(bytePart(attnTensor+"qkv_proj.weight", "x")), attnTensor + "qkv_proj.weight", ruleUnexpected, nil},
	{"given twice", add(zeros("language_model."+attnTensor+"index_q_proj.weight", safetensors.F8E4M3, 32, 64)), attnTensor + "index_q_proj.weight", ruleLoadedTwice,
		[]string{"also language_model." + attnTensor + "index_q_proj.weight"}},
	{"scale given twice", add(zeros(moeTensor+"experts.1.w1.weight_scale", safetensors.U8, 32, 2)), moeTensor + "experts.1.w1.weight_scale_inv", ruleLoadedTwice, []string{"experts.1.w1.weight_scale "}},
}

func planOf(t *testing.T, s *synthetic) (*Plan, error) {
	return NewPlan(openHead(t, inMap(s.files(2))), headOf(t, smallHead, Parallel{}))
}

func auditOf(t *testing.T, err error) []*Problem {
	t.Helper()
	var problems []*Problem
	for _, p := range Problems(err) {
		var one *Problem
		require.ErrorAs(t, p, &one)
		problems = append(problems, one)
	}
	return problems
}

func TestPlanFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
			f.do(s)
			_, err := planOf(t, s)
			problems := auditOf(t, err)
			require.Len(t, problems, 1, "%v", err)
			require.ErrorIs(t, err, f.rule)
			require.Equal(t, f.rule, problems[0].Rule)
			for _, text := range append(f.contains, f.tensor) {
				require.ErrorContains(t, err, text)
			}
		})
	}
}

// TestPlanReportsAllFaultsTogether does all of it to one checkpoint.
func TestPlanReportsAllFaultsTogether(t *testing.T) {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	var want []string
	for _, f := range faults {
		f.do(s)
		want = append(want, f.tensor+": "+string(f.rule))
	}
	_, err := planOf(t, s)
	var got []string
	for _, p := range auditOf(t, err) {
		got = append(got, p.Tensor+": "+p.Rule.Error())
	}
	slices.Sort(want)
	require.Equal(t, want, got)
	require.ErrorContains(t, err, fmt.Sprintf("%d problems", len(faults)))
}

func TestPlanMissingLayer(t *testing.T) {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	s.parts = slices.DeleteFunc(s.parts, func(p part) bool { _, own := MTPLayer("x." + p.name); return own || strings.Contains(p.name, ".mtp.") })
	_, err := planOf(t, s)
	require.Len(t, auditOf(t, err), 1, "one problem, not one per parameter")
	require.ErrorIs(t, err, ruleMissingLayer)
	require.ErrorContains(t, err, "Failed to load MTP layer 0 weights from checkpoint.")
}

// TestPlanBothFaultsOfOneTensor: neither hides the other.
func TestPlanBothFaultsOfOneTensor(t *testing.T) {
	s := synthesize(headOf(t, smallHead, Parallel{}), mixed)
	change(ehProj, func(p *part) { *p = zeros(p.name, "I64", 3, 3) })(s)
	_, err := planOf(t, s)
	require.ErrorIs(t, err, ruleWrongShape)
	require.ErrorIs(t, err, ruleWrongDtype)
}
