package reference

import "github.com/nlpodyssey/spago/mat"

// Stages holds every intermediate value of one forward, for the rows that were
// asked for. Matrices have one row per such row, heads side by side; with H
// hidden_size, D head_dim, NH, NKV and NI query, key/value and index heads, ID
// sparse_index_dim, NB blocks, E and K experts and picked experts, V vocab_size.
type Stages struct {
	// Rows are the indices into the sequence that the values below belong to.
	Rows []int

	// EmbedsMasked is e [H]: the embedding, zero at position 0.
	EmbedsMasked mat.Matrix
	// EnormOut and HnormOut are the two normalized halves [H].
	EnormOut, HnormOut mat.Matrix
	// EhProjOut is x [H].
	EhProjOut mat.Matrix
	// AttnNormOut is rms(x; input_layernorm) [H].
	AttnNormOut mat.Matrix

	// Q [NH·D] and K [NKV·D] are normalized and rotated, V [NKV·D] as projected.
	Q, K, V mat.Matrix
	// IndexQ [NI·ID] and IndexK [ID] are normalized and rotated.
	IndexQ, IndexK mat.Matrix
	// BlockScores [NI·NB] holds the block scores of index head 0, then of 1,
	// and so on; −Inf where no key of the block is visible.
	BlockScores mat.Matrix
	// SelectedBlocks lists, per row and index head, the chosen blocks, ascending.
	SelectedBlocks [][][]int
	// SelectMargin [NI] is the lowest score chosen without being forced minus
	// the highest rejected one; +Inf if there is no such pair.
	SelectMargin mat.Matrix
	// AttnCtx [NH·D] is the attention before o_proj, AttnOut [H] after it.
	AttnCtx, AttnOut mat.Matrix
	// PostAttnResidual is r [H].
	PostAttnResidual mat.Matrix

	// MoeNormOut is rms(r; post_attention_layernorm) [H].
	MoeNormOut mat.Matrix
	// RouterScores are the sigmoids [E].
	RouterScores mat.Matrix
	// ExpertIDs lists, per row, the K picked experts by descending score plus bias.
	ExpertIDs [][]int
	// ExpertWeights [K] are the weights of the picked experts, in that order.
	ExpertWeights mat.Matrix
	// RouterMargin [1] is the score plus bias of the last picked expert minus
	// that of the best one not picked; +Inf if all are picked.
	RouterMargin mat.Matrix
	// MoeRoutedOut, SharedOut and MoeOut are the routed sum, the shared expert, and their sum [H].
	MoeRoutedOut, SharedOut, MoeOut mat.Matrix

	// Hidden [H] is what the next draft step consumes, before the final norm.
	Hidden mat.Matrix
	// FinalNormOut is rms(hidden; final_layernorm) [H].
	FinalNormOut mat.Matrix
	// Logits are lm_head · FinalNormOut [V].
	Logits mat.Matrix
}
