package reference

import (
	"math"

	"github.com/nlpodyssey/spago/mat"
)

// keys is what attention takes from every row of the sequence: the contents a
// cache would have.
type keys struct {
	positions    []int
	k, v, indexK mat.Matrix // [NKV·D], [NKV·D], [ID] a row
}

// keys projects, normalizes and rotates the keys of all rows.
func (h *Head) keys(m *module, n1 mat.Matrix, positions []int) keys {
	eps := h.Config.RMSNormEps
	k := rms(linear(m.kProj, n1), m.kNorm, eps)
	indexK := rms(linear(m.indexKProj, n1), m.indexKNorm, eps)
	return keys{
		positions: positions,
		k:         h.rope(k, h.Config.HeadDim, positions),
		v:         linear(m.vProj, n1),
		indexK:    h.rope(indexK, h.Config.Sparse.IndexDim, positions),
	}
}

// rope rotates the first rotary_dim entries of every head of the given width,
// in the pairs (j, j + rotary_dim/2); the rest pass.
func (h *Head) rope(x mat.Matrix, headDim int, positions []int) mat.Matrix {
	out := x.Clone()
	half := h.Config.Rope.Dim / 2
	frequencies := h.Config.Rope.InverseFrequencies()
	for i, p := range positions {
		values := row(out, i)
		for ; len(values) > 0; values = values[headDim:] {
			for j, f := range frequencies {
				sin, cos := math.Sincos(float64(p) * f)
				sin *= h.Config.Rope.AttentionFactor
				cos *= h.Config.Rope.AttentionFactor
				a, b := values[j], values[j+half]
				values[j] = a*cos - b*sin
				values[j+half] = b*cos + a*sin
			}
		}
	}
	return out
}

// attention fills the stages from q to the output of o_proj. Query heads
// g·NH/NKV … (g+1)·NH/NKV − 1 share KV head g, and the selection of index head g.
func (h *Head) attention(m *module, s *Stages, all keys) {
	c := h.Config
	positions := make([]int, len(s.Rows))
	for i, r := range s.Rows {
		positions[i] = all.positions[r]
	}
	s.K, s.V, s.IndexK = gather(all.k, s.Rows), gather(all.v, s.Rows), gather(all.indexK, s.Rows)
	s.Q = h.rope(rms(linear(m.qProj, s.AttnNormOut), m.qNorm, c.RMSNormEps), c.HeadDim, positions)
	s.IndexQ = h.rope(rms(linear(m.indexQProj, s.AttnNormOut), m.indexQNorm, c.RMSNormEps), c.Sparse.IndexDim, positions)
	h.selectBlocks(s, all, positions)

	shared := c.NumAttentionHeads / c.NumKeyValueHeads // query heads of one KV head
	s.AttnCtx = zeros(len(s.Rows), c.NumAttentionHeads*c.HeadDim)
	for g := range c.NumKeyValueHeads {
		k := columns(all.k, g*c.HeadDim, (g+1)*c.HeadDim)
		v := columns(all.v, g*c.HeadDim, (g+1)*c.HeadDim)
		q := columns(s.Q, g*shared*c.HeadDim, (g+1)*shared*c.HeadDim)
		for i, p := range positions {
			visible := visibleKeys(all.positions, p, s.SelectedBlocks[i][g], c.Sparse.BlockSize)
			heads := newMatrix(shared, c.HeadDim, row(q, i))
			out := attend(heads, gather(k, visible), gather(v, visible))
			copy(row(s.AttnCtx, i)[g*shared*c.HeadDim:], mat.Data[float64](out))
		}
	}
	s.AttnOut = linear(m.oProj, s.AttnCtx)
}

// attend is softmax(q·k · D^−½) · v for the query heads q [n, D] over the keys k and values v [m, D].
func attend(q, k, v mat.Matrix) mat.Matrix {
	scale := 1 / math.Sqrt(float64(q.Shape()[1]))
	return softmax(q.Mul(k.T()).ProdScalar(scale)).Mul(v)
}

// visibleKeys returns the rows at positions up to p that lie in the blocks, which ascend.
func visibleKeys(positions []int, p int, blocks []int, blockSize int) []int {
	var visible []int
	for j, at := range positions {
		for len(blocks) > 0 && blocks[0] < at/blockSize {
			blocks = blocks[1:]
		}
		if at > p || len(blocks) == 0 {
			break
		}
		if blocks[0] == at/blockSize {
			visible = append(visible, j)
		}
	}
	return visible
}
