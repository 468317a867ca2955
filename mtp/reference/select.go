package reference

import (
	"cmp"
	"math"
	"slices"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/attention"
)

// selectBlocks scores the blocks for every row and index head and chooses:
//
//	score[b] = max over keys j of block b with j ≤ p of index_q[g]·index_k[j]
//
// It returns the chosen blocks per row and index head, ascending.
func (h *Head) selectBlocks(s stages, indexQ mat.Matrix, all keys, positions []int) [][][]int {
	c, n := h.Config.Attention, len(positions)
	blocks := all.positions[len(all.positions)-1]/c.BlockSize + 1
	scores := s.keep("block_scores", zeros(n, c.KVHeads*blocks))
	selected := s.keep("selected_blocks", zeros(n, c.KVHeads*c.TopkBlocks))
	margins := s.keep("select_margin", zeros(n, c.KVHeads))
	chosen := make([][][]int, n)
	for g := range c.KVHeads {
		dots := columns(indexQ, g*c.IndexDim, (g+1)*c.IndexDim).Mul(all.indexK.T())
		for i, p := range positions {
			ofHead := row(scores, i)[g*blocks : (g+1)*blocks]
			for b := range ofHead {
				ofHead[b] = math.Inf(-1)
			}
			candidates := scoreBlocks(ofHead, row(dots, i), all.positions, p, c.BlockSize)
			picked, margin := choose(candidates, ofHead, &c)
			chosen[i] = append(chosen[i], picked)
			for k := range c.TopkBlocks {
				id := -1
				if k < len(picked) {
					id = picked[k]
				}
				row(selected, i)[g*c.TopkBlocks+k] = float64(id)
			}
			row(margins, i)[g] = margin
		}
	}
	return chosen
}

// scoreBlocks raises scores[b] to the best dot product of a visible key of
// block b, and returns the blocks that have one, ascending: the candidates.
func scoreBlocks(scores, dots []float64, positions []int, p, blockSize int) (candidates []int) {
	for j, at := range positions {
		if at > p {
			break
		}
		b := at / blockSize
		if len(candidates) == 0 || candidates[len(candidates)-1] != b {
			candidates = append(candidates, b)
		}
		scores[b] = max(scores[b], dots[j])
	}
	return candidates
}

// choose takes sparse_topk_blocks of the candidates: the first
// sparse_init_block, then of the last sparse_local_block as many as fit, the
// query's own block first and the others backwards from it, then the best of the
// rest, the lower block on a tie. It returns them ascending, and by how much the
// lowest score chosen freely exceeds the highest one rejected.
func choose(candidates []int, scores []float64, c *attention.Geometry) (selected []int, margin float64) {
	n := len(candidates)
	first := candidates[:min(c.InitBlocks, c.TopkBlocks, n)]
	local := min(c.LocalBlocks, c.TopkBlocks-len(first), n-len(first))
	forced := slices.Concat(first, candidates[n-local:])

	rest := slices.DeleteFunc(slices.Clone(candidates), func(b int) bool { return slices.Contains(forced, b) })
	slices.SortStableFunc(rest, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	free := min(c.TopkBlocks-len(forced), len(rest))
	margin = math.Inf(1)
	if free > 0 && free < len(rest) {
		margin = scores[rest[free-1]] - scores[rest[free]]
	}
	selected = slices.Concat(forced, rest[:free])
	slices.Sort(selected)
	return selected, margin
}
