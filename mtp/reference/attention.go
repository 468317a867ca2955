package reference

import (
	"math"

	"github.com/nlpodyssey/spago/mat"
)

// keys is what attention takes from every row of the sequence: the contents a
// cache would have, rounded as it stores them.
type keys struct {
	positions    []int
	k, v, indexK mat.Matrix // [NKV·D], [NKV·D], [ID] a row

	computed struct{ k, v, indexK mat.Matrix } // before they are rounded
}

// keys projects, normalizes and rotates the keys of all rows.
func (h *Head) keys(m *module, n1 mat.Matrix, positions []int) keys {
	eps := h.Config.Attention.Eps
	k := rms(linear(m.kProj, n1), m.kNorm, eps)
	indexK := rms(linear(m.indexKProj, n1), m.indexKNorm, eps)
	all := keys{positions: positions}
	computed := &all.computed
	computed.k = h.rope(k, h.Config.Attention.HeadDim, positions)
	computed.v = linear(m.vProj, n1)
	computed.indexK = h.rope(indexK, h.Config.Attention.IndexDim, positions)
	ofK, ofV, ofIndexK := h.roundings(m)
	all.k, all.v, all.indexK = ofK.rounded(computed.k), ofV.rounded(computed.v), ofIndexK.rounded(computed.indexK)
	return all
}

// rope rotates the first rotary_dim entries of every head of the given width,
// in the pairs (j, j + rotary_dim/2); the rest pass.
func (h *Head) rope(x mat.Matrix, headDim int, positions []int) mat.Matrix {
	out := x.Clone()
	frequencies := h.Config.Attention.Rope.Frequencies
	half := len(frequencies)
	for i, p := range positions {
		values := row(out, i)
		for ; len(values) > 0; values = values[headDim:] {
			for j, f := range frequencies {
				sin, cos := math.Sincos(float64(p) * f)
				sin *= h.Config.Attention.Rope.AttentionFactor
				cos *= h.Config.Attention.Rope.AttentionFactor
				a, b := values[j], values[j+half]
				values[j] = a*cos - b*sin
				values[j+half] = b*cos + a*sin
			}
		}
	}
	return out
}

// attention is o_proj · attention for the given rows, whose n1 is at hand. It keeps
// the stages from q to its result. Query heads g·NH/NKV … (g+1)·NH/NKV − 1 share
// KV head g, and the selection of index head g.
func (h *Head) attention(m *module, s stages, n1 mat.Matrix, all keys, rows []int) mat.Matrix {
	c, eps := h.Config, h.Config.Attention.Eps
	positions := make([]int, len(rows))
	for i, r := range rows {
		positions[i] = all.positions[r]
	}
	q := s.keep("q", h.rope(rms(linear(m.qProj, n1), m.qNorm, eps), c.Attention.HeadDim, positions))
	s.keep("k", gather(all.computed.k, rows))
	s.keep("v", gather(all.computed.v, rows))
	indexQ := s.keep("index_q", h.rope(rms(linear(m.indexQProj, n1), m.indexQNorm, eps), c.Attention.IndexDim, positions))
	s.keep("index_k", gather(all.computed.indexK, rows))
	selected := h.selectBlocks(s, indexQ, all, positions)

	shared := c.Attention.Heads / c.Attention.KVHeads // query heads of one KV head
	context := zeros(len(rows), c.Attention.Heads*c.Attention.HeadDim)
	for g := range c.Attention.KVHeads {
		k := columns(all.k, g*c.Attention.HeadDim, (g+1)*c.Attention.HeadDim)
		v := columns(all.v, g*c.Attention.HeadDim, (g+1)*c.Attention.HeadDim)
		ofGroup := columns(q, g*shared*c.Attention.HeadDim, (g+1)*shared*c.Attention.HeadDim)
		for i, p := range positions {
			visible := visibleKeys(all.positions, p, selected[i][g], c.Attention.BlockSize)
			heads := newMatrix(shared, c.Attention.HeadDim, row(ofGroup, i))
			out := attend(heads, gather(k, visible), gather(v, visible))
			copy(row(context, i)[g*shared*c.Attention.HeadDim:], mat.Data[float64](out))
		}
	}
	s.keep("attn_ctx", context)
	return s.keep("attn_out", linear(m.oProj, context))
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
