package reference

import "github.com/nlpodyssey/spago/mat"

// Stages holds every intermediate value of one forward under its name, for the
// rows that were asked for: a matrix with one row for each, heads side by side.
// H is hidden_size, D head_dim, NH, NKV and NI are query, key/value and index
// heads, ID is sparse_index_dim, NB blocks, B sparse_topk_blocks, E and K experts
// and picked experts, V vocab_size.
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
type Stages map[string]mat.Matrix

// keep stores a stage and returns it.
func (s Stages) keep(name string, m mat.Matrix) mat.Matrix {
	s[name] = m
	return m
}
