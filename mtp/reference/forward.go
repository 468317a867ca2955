package reference

import "github.com/nlpodyssey/spago/mat"

// Forward runs one module over the rows of one sequence, without a cache. Row i holds a
// token id, its position and the previous hidden state hidden[i] [H]. The token is the one
// AFTER the position, as always in MTP. Positions increase, not necessarily by one; a
// position without a row has no key. A bad argument is a *hip.InputError.
//
// It returns every intermediate value by its name: a matrix with one row for each of rows,
// heads side by side. rows are indices into tokens, in increasing order; without any it
// returns all rows. Forward computes keys and values of every row, and the rest only for
// these.
//
// H is hidden_size, D head_dim, NH, NKV and NI are query, key/value and index heads, ID is
// sparse_index_dim, NB blocks, B sparse_topk_blocks, E and K experts and picked experts, V
// vocab_size.
//
//	embeds_masked        [H]       e: the embedding, zero at position 0
//	enorm_out            [H]       rms(e; enorm)
//	hnorm_out            [H]       rms(h; hnorm)
//	eh_proj_out          [H]       x
//	attn_norm_out        [H]       rms(x; input_layernorm)
//	q                    [NH·D]    normalized and rotated
//	k                    [NKV·D]   normalized and rotated
//	v                    [NKV·D]   as projected
//	index_q              [NI·ID]   normalized and rotated
//	index_k              [ID]      normalized and rotated
//	block_scores         [NI·NB]   −Inf where no key of the block is visible
//	selected_blocks      [NI·B]    the chosen blocks of each index head, ascending, then −1
//	select_margin        [NI]      lowest score chosen freely minus highest one rejected; or +Inf
//	attn_ctx             [NH·D]    attention before o_proj
//	attn_out             [H]       o_proj · attn_ctx
//	post_attn_residual   [H]       r
//	moe_norm_out         [H]       rms(r; post_attention_layernorm)
//	router_scores        [E]       sigmoids, before the correction bias
//	expert_ids           [K]       by descending score plus bias
//	expert_weights       [K]       of expert_ids
//	router_margin        [1]       last picked minus best one not picked, score plus bias; or +Inf
//	moe_routed_out       [H]       routed experts
//	shared_out           [H]       shared expert
//	moe_out              [H]       their sum
//	hidden               [H]       what the next draft step consumes
//	final_norm_out       [H]       rms(hidden; final_layernorm)
//	logits               [V]       lm_head · final_norm_out
//
// Names are those of [mtp.Stage], which lacks the margins and what follows hidden.
func (h *Head) Forward(module int, tokens, positions []int, hidden mat.Matrix, rows ...int) (map[string]mat.Matrix, error) {
	if len(rows) == 0 {
		for i := range tokens {
			rows = append(rows, i)
		}
	}
	if err := h.check(module, tokens, positions, hidden, rows); err != nil {
		return nil, err
	}
	hidden = inFloat64(hidden)
	m, eps := &h.modules[module], h.Config.Attention.Eps

	e := h.embedsMasked(tokens, positions)
	left, right := rms(e, m.enorm, eps), rms(hidden, m.hnorm, eps)
	x := linear(m.ehProj, concat(left, right))
	n1 := rms(x, m.inputLayernorm, eps)
	keys := h.keys(m, n1, positions)

	s := stages{}
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
