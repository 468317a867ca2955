package reference

import "github.com/nlpodyssey/spago/mat"

// Forward runs one module over the rows of one sequence, with nothing cached:
// row i holds a token id, its position and the previous hidden state hidden[i]
// [H]. The token is the one AFTER the position, as always in MTP. Positions
// increase, not necessarily by one; a position without a row has no key.
// Invalid arguments match ErrInput.
func (h *Head) Forward(module int, tokens, positions []int, hidden mat.Matrix) (*Stages, error) {
	rows := make([]int, len(tokens))
	for i := range rows {
		rows[i] = i
	}
	return h.ForwardRows(module, tokens, positions, hidden, rows)
}

// ForwardRows is Forward with stages of some rows only, indices into tokens in
// increasing order: every row gives its keys and values, the rest is computed for those alone.
func (h *Head) ForwardRows(module int, tokens, positions []int, hidden mat.Matrix, rows []int) (*Stages, error) {
	if err := h.check(module, tokens, positions, hidden); err != nil {
		return nil, err
	}
	if err := checkRows(rows, len(tokens)); err != nil {
		return nil, err
	}
	hidden = inFloat64(hidden)
	m, eps := &h.modules[module], h.Config.RMSNormEps

	embeds := h.embedsMasked(tokens, positions)
	enormOut := rms(embeds, m.enorm, eps)
	hnormOut := rms(hidden, m.hnorm, eps)
	x := linear(m.ehProj, concat(enormOut, hnormOut))
	n1 := rms(x, m.inputLayernorm, eps)
	keys := h.keys(m, n1, positions)

	s := &Stages{
		Rows:         append([]int{}, rows...),
		EmbedsMasked: gather(embeds, rows),
		EnormOut:     gather(enormOut, rows),
		HnormOut:     gather(hnormOut, rows),
		EhProjOut:    gather(x, rows),
		AttnNormOut:  gather(n1, rows),
	}
	h.attention(m, s, keys)
	s.PostAttnResidual = s.EhProjOut.Add(s.AttnOut)
	s.MoeNormOut = rms(s.PostAttnResidual, m.postAttentionLayernorm, eps)
	h.moe(m, s)
	s.Hidden = s.PostAttnResidual.Add(s.MoeOut)
	s.FinalNormOut = rms(s.Hidden, m.finalLayernorm, eps)
	s.Logits = linear(h.lmHead, s.FinalNormOut)
	return s, nil
}

// Logits returns lm_head · rms(hidden; final_layernorm) of a module, a row [V]
// per row of hidden [H].
func (h *Head) Logits(module int, hidden mat.Matrix) (mat.Matrix, error) {
	if err := h.checkModule(module); err != nil {
		return nil, err
	}
	if err := h.checkHidden(hidden); err != nil {
		return nil, err
	}
	return linear(h.lmHead, h.finalNorm(module, inFloat64(hidden))), nil
}

// finalNorm is rms(hidden; final_layernorm).
func (h *Head) finalNorm(module int, hidden mat.Matrix) mat.Matrix {
	return rms(hidden, h.modules[module].finalLayernorm, h.Config.RMSNormEps)
}

// embedsMasked is the embedding of every token, zero where the position is 0.
func (h *Head) embedsMasked(tokens, positions []int) mat.Matrix {
	out := zeros(len(tokens), h.Config.HiddenSize)
	for i, token := range tokens {
		if positions[i] != 0 {
			copy(row(out, i), row(h.embed, token))
		}
	}
	return out
}
