package moe

import (
	"math"
	"sort"

	"github.com/drafthead/drafthead/hip"
)

// forwardNaive is the mixture as its formulas stand, a row at a time, in
// float64 without intermediate rounding and without any of the package's code.
func (m *mixture) forwardNaive(x, residual []float32) outcome {
	var o outcome
	c, rows := m.config, len(x)/m.config.Hidden
	for at := 0; at < len(x); at += c.Hidden {
		row := make([]float64, c.Hidden)
		for j, v := range x[at : at+c.Hidden] {
			row[j] = float64(v)
		}
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
			for j, v := range m.expertNaive(w1, w3, m.w2.values[e*c.Hidden:][:c.Hidden], m.roundedNaive(row, rows), rows) {
				routed[j] += w * v
			}
		}
		shared := m.expertNaive(m.gateUp.values[:c.SharedIntermediate], m.gateUp.values[c.SharedIntermediate:], m.down.values, m.roundedNaive(row, rows), rows)
		for j := range c.Hidden {
			o.routed = append(o.routed, float32(routed[j]))
			o.shared = append(o.shared, float32(shared[j]))
			o.moeOut = append(o.moeOut, float32(routed[j]+shared[j]))
			o.hidden = append(o.hidden, float32(float64(residual[at+j])+routed[j]+shared[j]))
		}
	}
	return o
}

func (m *mixture) expertNaive(w1, w3, w2 [][]float32, x []float64, rows int) []float64 {
	h, up := dots(w1, x), dots(w3, x)
	for j, g := range h {
		g = math.Min(g, m.config.Limit)
		u := math.Max(-m.config.Limit, math.Min(up[j], m.config.Limit))
		h[j] = g / (1 + math.Exp(-m.config.Alpha*g)) * (u + m.config.Beta)
	}
	return dots(w2, m.roundedNaive(h, rows))
}

// roundedNaive rounds a row to MXFP8 as the config has it, by the formulas: the largest of 32
// columns lies between 256 and 512 times the scale, and a number from 2^e on is a multiple
// of 2^(e−3), but of 2^−9 at least.
func (m *mixture) roundedNaive(x []float64, rows int) []float64 {
	if m.config.Activations != hip.ActivationsMXFP8 || rows < 5 {
		return x
	}
	exponent := func(v float64) int { return math.Ilogb(math.Abs(v)) }
	rounded := make([]float64, len(x))
	for block := 0; block < len(x); block += 32 {
		columns := x[block:min(block+32, len(x))]
		largest := 0.0
		for _, v := range columns {
			largest = math.Max(largest, math.Abs(v))
		}
		for i, v := range columns {
			if v != 0 {
				scaled := math.Ldexp(v, 8-exponent(largest))
				step := math.Ldexp(1, max(exponent(scaled), -6)-3)
				scaled = math.Max(-448, math.Min(448, math.RoundToEven(scaled/step)*step))
				rounded[block+i] = math.Ldexp(scaled, exponent(largest)-8)
			}
		}
	}
	return rounded
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
