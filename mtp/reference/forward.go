package reference

import "github.com/nlpodyssey/spago/mat"

// Forward runs one module over the rows of one sequence, with nothing cached:
// row i holds a token id, its position and the previous hidden state hidden[i]
// [H]. The token is the one AFTER the position, as always in MTP. Positions
// increase, not necessarily by one; a position without a row has no key. An
// argument that it refuses is a *hip.InputError.
func (h *Head) Forward(module int, tokens, positions []int, hidden mat.Matrix) (Stages, error) {
	rows := make([]int, len(tokens))
	for i := range rows {
		rows[i] = i
	}
	return h.ForwardRows(module, tokens, positions, hidden, rows)
}

// ForwardRows is Forward with stages of some rows only, indices into tokens in
// increasing order: every row gives its keys and values, the rest is computed for those alone.
func (h *Head) ForwardRows(module int, tokens, positions []int, hidden mat.Matrix, rows []int) (Stages, error) {
	if err := h.check(module, tokens, positions, hidden, rows); err != nil {
		return nil, err
	}
	hidden = inFloat64(hidden)
	m, eps := &h.modules[module], h.Config.RMSNormEps

	e := h.embedsMasked(tokens, positions)
	left, right := rms(e, m.enorm, eps), rms(hidden, m.hnorm, eps)
	x := linear(m.ehProj, concat(left, right))
	n1 := rms(x, m.inputLayernorm, eps)
	keys := h.keys(m, n1, positions)

	s := Stages{}
	s.keep("embeds_masked", gather(e, rows))
	s.keep("enorm_out", gather(left, rows))
	s.keep("hnorm_out", gather(right, rows))
	x = s.keep("eh_proj_out", gather(x, rows))
	n1 = s.keep("attn_norm_out", gather(n1, rows))

	r := s.keep("post_attn_residual", x.Add(h.attention(m, s, n1, keys, rows)))
	n2 := s.keep("moe_norm_out", rms(r, m.postAttentionLayernorm, eps))
	out := s.keep("hidden", r.Add(h.moe(m, s, n2)))
	final := s.keep("final_norm_out", rms(out, m.finalLayernorm, eps))
	s.keep("logits", linear(h.lmHead, final))
	return s, nil
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
