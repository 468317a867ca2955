package reference

import (
	"cmp"
	"math"
	"slices"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/mtp"
)

// moe fills the stages from the router to the sum of routed and shared experts:
//
//	s    = sigmoid(gate · x)
//	pick = top num_experts_per_tok of s + e_score_correction_bias, the lower expert on a tie
//	w    = s[pick] / sum(s[pick]) · routed_scaling_factor
//	out  = Σ w_k expert_k(x) + shared(x)
func (h *Head) moe(m *module, s *Stages) {
	c, n := h.Config, len(s.Rows)
	s.RouterScores = linear(m.gate, s.MoeNormOut)
	s.ExpertWeights, s.RouterMargin = zeros(n, c.NumExpertsPerTok), zeros(n, 1)
	s.MoeRoutedOut = zeros(n, c.HiddenSize)
	for i := range n {
		scores := row(s.RouterScores, i)
		for e, logit := range scores {
			scores[e] = sigmoid(logit)
		}
		picked, margin := pick(scores, m.scoreCorrectionBias, c.NumExpertsPerTok)
		s.ExpertIDs = append(s.ExpertIDs, picked)
		row(s.RouterMargin, i)[0] = margin

		sum := 0.0
		for _, e := range picked {
			sum += scores[e]
		}
		x := newMatrix(1, c.HiddenSize, row(s.MoeNormOut, i))
		out := zeros(1, c.HiddenSize)
		for k, e := range picked {
			weight := scores[e] / sum * c.RoutedScalingFactor
			row(s.ExpertWeights, i)[k] = weight
			out.AddInPlace(m.experts[e].apply(x, c).ProdScalar(weight))
		}
		copy(row(s.MoeRoutedOut, i), row(out, 0))
	}
	s.SharedOut = m.sharedExpert.apply(s.MoeNormOut, c)
	s.MoeOut = s.MoeRoutedOut.Add(s.SharedOut)
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
	g = min(g, c.SwigluLimit)
	u = min(max(u, -c.SwigluLimit), c.SwigluLimit)
	return g * sigmoid(c.SwigluAlpha*g) * (u + c.SwigluBeta)
}
