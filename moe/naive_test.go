package moe

import (
	"math"
	"sort"
)

// forwardNaive is the mixture as its formulas stand, a row at a time, in
// float64 without intermediate rounding and without any of the package's code.
func (m *mixture) forwardNaive(x, residual []float32) outcome {
	var o outcome
	c := m.config
	for at := 0; at < len(x); at += c.Hidden {
		row := x[at : at+c.Hidden]
		s := dots(m.gate.values, row)
		for e := range s {
			s[e] = 1 / (1 + math.Exp(-s[e]))
			o.scores = append(o.scores, float32(s[e]))
		}
		ids := make([]int, c.Experts)
		for e := range ids {
			ids[e] = e
		}
		sort.SliceStable(ids, func(i, j int) bool {
			return s[ids[i]]+float64(m.bias[ids[i]]) > s[ids[j]]+float64(m.bias[ids[j]])
		})
		ids = ids[:c.TopK]
		sum := 0.0
		for _, e := range ids {
			sum += s[e]
		}
		routed := make([]float64, c.Hidden)
		for _, e := range ids {
			w := s[e] / sum * c.Scale
			o.ids, o.weights = append(o.ids, int32(e)), append(o.weights, float32(w))
			w1 := m.w13.values[e*2*c.Intermediate:][:c.Intermediate]
			w3 := m.w13.values[(e*2+1)*c.Intermediate:][:c.Intermediate]
			for j, v := range m.expertNaive(w1, w3, m.w2.values[e*c.Hidden:][:c.Hidden], row) {
				routed[j] += w * v
			}
		}
		shared := m.expertNaive(m.gateUp.values[:c.SharedIntermediate], m.gateUp.values[c.SharedIntermediate:], m.down.values, row)
		for j := range c.Hidden {
			o.routed = append(o.routed, float32(routed[j]))
			o.shared = append(o.shared, float32(shared[j]))
			o.moeOut = append(o.moeOut, float32(routed[j]+shared[j]))
			o.hidden = append(o.hidden, float32(float64(residual[at+j])+routed[j]+shared[j]))
		}
	}
	return o
}

func (m *mixture) expertNaive(w1, w3, w2 [][]float32, x []float32) []float64 {
	h, up := dots(w1, x), dots(w3, x)
	for j, g := range h {
		g = math.Min(g, m.config.Limit)
		u := math.Max(-m.config.Limit, math.Min(up[j], m.config.Limit))
		h[j] = g / (1 + math.Exp(-m.config.Alpha*g)) * (u + m.config.Beta)
	}
	return dots(w2, h)
}

func dots[T float32 | float64](w [][]float32, x []T) []float64 {
	y := make([]float64, len(w))
	for j := range w {
		for c, v := range w[j] {
			y[j] += float64(v) * float64(x[c])
		}
	}
	return y
}
