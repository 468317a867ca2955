package attention

import (
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// naive computes a scenario from the formulas alone, in float64 and without
// pages, batches or any code of the kernels.
func (s *scenario) naive() *results {
	g := &s.geometry
	r := new(results)
	for _, span := range s.spans {
		r.blocks = max(r.blocks, (span.position+span.rows+g.BlockSize-1)/g.BlockSize)
	}
	for i, span := range s.spans {
		rows := make([]naiveRow, span.position+span.rows)
		for p := range rows {
			rows[p] = s.naiveRow(s.projected(i, p), p)
			if p >= span.position {
				r.qkv = append(r.qkv, rows[p].columns...)
			}
		}
		for p := span.position; p < len(rows); p++ {
			for kv := range g.KVHeads {
				scores := make([]float64, r.blocks)
				for block := range scores {
					scores[block] = math.Inf(-1)
				}
				var candidates []int
				for j := 0; j <= p; j++ {
					if !s.present(i, j) {
						continue
					}
					block := j / g.BlockSize
					if !slices.Contains(candidates, block) {
						candidates = append(candidates, block)
					}
					scores[block] = max(scores[block], naiveDot(rows[p].indexQ(g, kv), rows[j].indexK))
				}
				selected := candidates
				if !g.dense() {
					selected = naiveSelect(g, candidates, scores)
					for _, score := range scores {
						r.scores = append(r.scores, float32(score))
					}
				}
				for k := range g.TopkBlocks {
					if k < len(selected) {
						r.selected = append(r.selected, int32(selected[k]))
					} else {
						r.selected = append(r.selected, -1)
					}
				}
				for h := kv * g.Heads / g.KVHeads; h < (kv+1)*g.Heads/g.KVHeads; h++ {
					var weights []float64
					var values [][]float64
					for j := 0; j <= p; j++ {
						if s.present(i, j) && slices.Contains(selected, j/g.BlockSize) {
							q := widen(rows[p].columns[h*g.HeadDim:][:g.HeadDim])
							weights = append(weights, naiveDot(q, rows[j].k[kv])/math.Sqrt(float64(g.HeadDim)))
							values = append(values, rows[j].v[kv])
						}
					}
					r.out = append(r.out, naiveSoftmaxSum(weights, values, g.HeadDim)...)
				}
			}
		}
	}
	return r
}

// naiveRow is one row after norm and rotation: the projection's columns, and
// what a cache gives back.
type naiveRow struct {
	columns []float32
	k, v    [][]float64
	indexK  []float64
}

func (r *naiveRow) indexQ(g *Geometry, head int) []float64 {
	return widen(r.columns[g.Columns()-(g.KVHeads+1-head)*g.IndexDim:][:g.IndexDim])
}

func (s *scenario) naiveRow(columns []float32, position int) naiveRow {
	g := &s.geometry
	r := naiveRow{columns: columns}
	at := 0
	next := func(n int, weight []float32, e element, scale float64) []float64 {
		if n == 0 {
			return nil
		}
		x := columns[at : at+n]
		at += n
		if weight != nil {
			naiveNormRope(x, weight, g, position)
		}
		stored := widen(x)
		for i := range stored {
			switch e {
			case CacheBF16:
				stored[i] = float64(hip.ToBF16(x[i]).Float32())
			case CacheFP8:
				stored[i] = naiveE4M3(stored[i]/scale) * scale
			}
		}
		return stored
	}
	for range g.Heads {
		next(g.HeadDim, s.learned.qNorm, CacheF32, 1)
	}
	for range g.KVHeads {
		r.k = append(r.k, next(g.HeadDim, s.learned.kNorm, s.format.keys(), float64(float32(testKeyScale))))
	}
	for range g.KVHeads {
		r.v = append(r.v, next(g.HeadDim, nil, s.format.keys(), float64(float32(testValueScale))))
	}
	for range g.KVHeads {
		next(g.IndexDim, s.learned.indexQNorm, CacheF32, 1)
	}
	r.indexK = next(g.IndexDim, s.learned.indexKNorm, s.format.indexKeys(), 1)
	return r
}

// naiveE4M3 rounds to a multiple of the step at x, ties to even, and saturates.
func naiveE4M3(x float64) float64 {
	_, exponent := math.Frexp(x)
	step := math.Ldexp(1, max(exponent-4, -9))
	return max(-448, min(448, math.RoundToEven(x/step)*step))
}

func naiveNormRope(x, weight []float32, g *Geometry, position int) {
	squares := 0.0
	for _, v := range x {
		squares += math.Pow(float64(v), 2)
	}
	for i := range x {
		x[i] = float32(float64(x[i]) / math.Sqrt(squares/float64(len(x))+g.Eps) * (1 + float64(weight[i])))
	}
	half := len(g.Rope.Frequencies)
	for j := range half {
		angle := float64(position) * g.Rope.Frequencies[j]
		turned := complex(float64(x[j]), float64(x[j+half])) * complex(math.Cos(angle), math.Sin(angle))
		x[j], x[j+half] = float32(g.Rope.AttentionFactor*real(turned)), float32(g.Rope.AttentionFactor*imag(turned))
	}
}

// naiveSelect takes blocks one by one, each time the best that is left.
func naiveSelect(g *Geometry, candidates []int, scores []float64) []int {
	n := len(candidates)
	left := slices.Clone(candidates)
	var taken []int
	take := func(block int) {
		if i := slices.Index(left, block); i >= 0 && len(taken) < g.TopkBlocks {
			left = slices.Delete(left, i, i+1)
			taken = append(taken, block)
		}
	}
	for i := range min(g.InitBlocks, n) {
		take(candidates[i])
	}
	for i := range min(g.LocalBlocks, n) {
		take(candidates[n-1-i])
	}
	for len(left) > 0 && len(taken) < g.TopkBlocks {
		best := left[0]
		for _, block := range left {
			if scores[block] > scores[best] || math.IsNaN(scores[best]) && !math.IsNaN(scores[block]) {
				best = block
			}
		}
		take(best)
	}
	slices.Sort(taken)
	return taken
}

func naiveSoftmaxSum(scores []float64, values [][]float64, dim int) []float32 {
	sum, total := make([]float64, dim), 0.0
	for i, score := range scores {
		w := math.Exp(score - slices.Max(scores))
		total += w
		for d, v := range values[i] {
			sum[d] += w * v
		}
	}
	out := make([]float32, dim)
	for d := range out {
		if len(scores) > 0 {
			out[d] = float32(sum[d] / total)
		}
	}
	return out
}

func naiveDot(x, y []float64) (sum float64) {
	for i := range x {
		sum += x[i] * y[i]
	}
	return sum
}

func widen(x []float32) []float64 {
	wide := make([]float64, len(x))
	for i, v := range x {
		wide[i] = float64(v)
	}
	return wide
}
