package mtp

import (
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/weights"
)

// module is the parameters of one MTP module in device memory.
type module struct {
	enorm, hnorm           hip.Ptr
	ehProj                 *weights.Matrix
	inputNorm, postNorm    hip.Ptr
	qkv, o                 *weights.Matrix
	qNorm, kNorm           hip.Ptr
	indexQNorm, indexKNorm hip.Ptr
	experts                *moe.Experts
	finalNorm              hip.Ptr
}

// forward queues one run of the module over the rows of q's step: hidden states in,
// hidden states out, and in between keys and values into the cache. The lines are the
// formulas of [Head.Forward].
func (m *module) forward(q *queue) {
	both := q.embed(m.enorm, m.hnorm)       // [ rms(e; enorm) | rms(h; hnorm) ]
	x := q.product(&q.x, m.ehProj, both)    // x = eh_proj · both
	normed := q.rms(x, m.inputNorm)         // rms(x; input_layernorm)
	qkv := q.product(&q.qkv, m.qkv, normed) // queries, keys, values, index queries and keys
	q.insert(qkv, m)                        // normed and rotated; keys and values into the cache
	q.device = q.after                      // what is kept of the rows is complete
	x, qkv = q.wanted(x, qkv)               // from here on, the rows whose hidden states are wanted
	blocks := q.selectBlocks(qkv)           // the indexer's choice
	context := q.attend(qkv, blocks)        // attention over the chosen blocks
	attn := q.attentionOut(m.o, context)    // o_proj · attention, of the heads of all ranks
	r, n := q.addRMS(x, attn, m.postNorm)   // r = x + attn; n = rms(r; post_attention_layernorm)
	q.experts(m.experts, r, n)              // hidden = r + moe(n)
}

// module gathers the parameters of module i.
func (h *Head) module(i int) module {
	const layer, attn, sparse = "transformer_layer.", "transformer_layer.self_attn.", "transformer_layer.block_sparse_moe."
	matrix := func(name string) *weights.Matrix { return h.loaded.Matrix(layerName(i, name)) }
	vector := func(name string) hip.Ptr {
		p, _ := h.loaded.Vector(layerName(i, name))
		return p
	}
	return module{
		enorm: vector("enorm.weight"), hnorm: vector("hnorm.weight"), finalNorm: vector("final_layernorm.weight"),
		ehProj:    matrix("eh_proj.weight"),
		inputNorm: vector(layer + "input_layernorm.weight"), postNorm: vector(layer + "post_attention_layernorm.weight"),
		qkv: matrix(attn + "qkv_proj.weight"), o: matrix(attn + "o_proj.weight"),
		qNorm: vector(attn + "q_norm.weight"), kNorm: vector(attn + "k_norm.weight"),
		indexQNorm: vector(attn + "index_q_norm.weight"), indexKNorm: vector(attn + "index_k_norm.weight"),
		experts: moe.NewExperts(h.experts, func(name string) *weights.Matrix { return matrix(sparse + name) }, vector(sparse+"e_score_correction_bias")),
	}
}
