package reference

import (
	"cmp"
	"math"
	"slices"

	"github.com/drafthead/drafthead/mtp"
)

// selectBlocks scores the blocks for every row and index head and chooses:
//
//	score[b] = max over keys j of block b with j ≤ p of index_q[g]·index_k[j]
func (h *Head) selectBlocks(s *Stages, all keys, positions []int) {
	c := h.Config.Sparse
	blocks := all.positions[len(all.positions)-1]/c.BlockSize + 1
	s.BlockScores = zeros(len(s.Rows), c.NumIndexHeads*blocks)
	s.SelectMargin = zeros(len(s.Rows), c.NumIndexHeads)
	s.SelectedBlocks = make([][][]int, len(s.Rows))
	for g := range c.NumIndexHeads {
		dots := columns(s.IndexQ, g*c.IndexDim, (g+1)*c.IndexDim).Mul(all.indexK.T())
		for i, p := range positions {
			scores := row(s.BlockScores, i)[g*blocks : (g+1)*blocks]
			for b := range scores {
				scores[b] = math.Inf(-1)
			}
			candidates := scoreBlocks(scores, row(dots, i), all.positions, p, c.BlockSize)
			selected, margin := choose(candidates, scores, c)
			s.SelectedBlocks[i] = append(s.SelectedBlocks[i], selected)
			row(s.SelectMargin, i)[g] = margin
		}
	}
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
// sparse_init_block, then the last sparse_local_block, then the best of the
// rest, the lower block on a tie. It returns them ascending, and by how much
// the lowest score chosen freely exceeds the highest one rejected.
func choose(candidates []int, scores []float64, c mtp.SparseAttention) (selected []int, margin float64) {
	n := len(candidates)
	first := candidates[:min(c.InitBlock, n)]
	last := candidates[max(n-c.LocalBlock, len(first)):]
	forced := slices.Concat(first, last)
	forced = forced[:min(len(forced), c.TopkBlocks)]

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
