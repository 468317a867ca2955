package reference

import (
	"cmp"
	"math"
	"slices"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/mtp"
)

// moe is the sum of routed and shared experts, and keeps the stages from the router to it:
//
//	s    = sigmoid(gate · x)
//	pick = top num_experts_per_tok of s + e_score_correction_bias, the lower expert on a tie
//	w    = s[pick] / sum(s[pick]) · routed_scaling_factor
//	out  = Σ w_k expert_k(x) + shared(x)
func (h *Head) moe(m *module, s stages, x mat.Matrix) mat.Matrix {
	c, n := h.Config, x.Shape()[0]
	scores := s.keep("router_scores", linear(m.gate, x))
	ids := s.keep("expert_ids", zeros(n, c.MoE.TopK))
	weights := s.keep("expert_weights", zeros(n, c.MoE.TopK))
	margins := s.keep("router_margin", zeros(n, 1))
	routed := s.keep("moe_routed_out", zeros(n, c.HiddenSize))
	for i := range n {
		scores := row(scores, i)
		for e, logit := range scores {
			scores[e] = sigmoid(logit)
		}
		picked, margin := pick(scores, m.scoreCorrectionBias, c.MoE.TopK)
		row(margins, i)[0] = margin

		sum := 0.0
		for _, e := range picked {
			sum += scores[e]
		}
		x := newMatrix(1, c.HiddenSize, row(x, i))
		out := zeros(1, c.HiddenSize)
		for k, e := range picked {
			weight := scores[e] / sum * c.MoE.Scale
			row(ids, i)[k], row(weights, i)[k] = float64(e), weight
			out.AddInPlace(m.experts[e].apply(x, c).ProdScalar(weight))
		}
		copy(row(routed, i), row(out, 0))
	}
	shared := s.keep("shared_out", m.sharedExpert.apply(x, c))
	return s.keep("moe_out", routed.Add(shared))
}

// pick returns the k experts of highest score plus bias, best first, and by how
// much the last of them exceeds the best one not picked.
func pick(scores, bias []float64, k int) (picked []int, margin float64) {
	experts := make([]int, len(scores))
	for e := range experts {
		experts[e] = e
	}
	biased := func(e int) float64 { return scores[e] + bias[e] }
	slices.SortStableFunc(experts, func(a, b int) int { return cmp.Compare(biased(b), biased(a)) })
	margin = math.Inf(1)
	if k < len(experts) {
		margin = biased(experts[k-1]) - biased(experts[k])
	}
	return experts[:k], margin
}

// apply is expert(x) = w2 · act(w1·x, w3·x) for every row of x.
func (e expert) apply(x mat.Matrix, c *mtp.Config) mat.Matrix {
	gate, up := linear(e.w1, x), linear(e.w3, x)
	inner := gate.Apply(func(i, j int, g float64) float64 {
		return act(g, row(up, i)[j], c)
	})
	return linear(e.w2, inner)
}

// act is the clamped SwiGLU:
//
//	act(g, u) = min(g, limit) · sigmoid(alpha · min(g, limit)) · (clamp(u, ±limit) + beta)
func act(g, u float64, c *mtp.Config) float64 {
	g = min(g, c.MoE.Limit)
	u = min(max(u, -c.MoE.Limit), c.MoE.Limit)
	return g * sigmoid(c.MoE.Alpha*g) * (u + c.MoE.Beta)
}
