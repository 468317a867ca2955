package main

import (
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// model is the matrices of MTP module 0, and what is shared with the target.
type model struct {
	embed, lmHead            *weights.Matrix
	ehProj, qkv, o, gate     *weights.Matrix
	w13, w2                  *weights.Matrix // of all routed experts
	sharedGateUp, sharedDown *weights.Matrix
	experts, perToken        int // held by the rank; picked in all
	firstExpert              int
	kvHeads, headDim         int
	indexDim, block, topk    int
	keyBytes, indexBytes     int64 // of a value in the cache: of keys and values, and of index keys
}

// newModel finds the matrices by their parameters' names.
func newModel(c *mtp.Config, matrix func(name string) *weights.Matrix, r *ranks.Rank, cache attention.CacheFormat) (*model, error) {
	m := &model{
		experts: c.MoE.Experts, perToken: c.MoE.TopK, kvHeads: c.Attention.KVHeads, headDim: c.Attention.HeadDim,
		indexDim: c.Attention.IndexDim, block: c.Attention.BlockSize, topk: c.Attention.TopkBlocks,
	}
	m.keyBytes, m.indexBytes = valueBytes(cache)
	const layer = "model.layers.0."
	const attn, moe = layer + "transformer_layer.self_attn.", layer + "transformer_layer.block_sparse_moe."
	lmHead := "lm_head.weight"
	if c.TieWordEmbeddings {
		lmHead = "model.embed_tokens.weight"
	}
	for _, p := range []struct {
		to   **weights.Matrix
		name string
	}{
		{&m.embed, "model.embed_tokens.weight"}, {&m.lmHead, lmHead}, {&m.ehProj, layer + "eh_proj.weight"},
		{&m.qkv, attn + "qkv_proj.weight"}, {&m.o, attn + "o_proj.weight"}, {&m.gate, moe + "gate.weight"},
		{&m.w13, moe + "experts.w13_weight"}, {&m.w2, moe + "experts.w2_weight"},
		{&m.sharedGateUp, moe + "shared_experts.gate_up_proj.weight"}, {&m.sharedDown, moe + "shared_experts.down_proj.weight"},
	} {
		if *p.to = matrix(p.name); *p.to == nil {
			return nil, fmt.Errorf("the head has no %s", p.name)
		}
	}
	if layout := r.Layout(); layout.Ranks() > 1 {
		m.kvHeads = max(1, m.kvHeads/layout.Tensor)
		m.experts = m.w2.Rows / c.HiddenSize
		dealt, more := c.MoE.Experts/layout.Expert, c.MoE.Experts%layout.Expert // the first hold one more
		m.firstExpert = r.Expert()*dealt + min(r.Expert(), more)
	}
	return m, nil
}

// pass is what the bytes of one pass of the module depend on beside the shapes.
type pass struct {
	rows      int   // of all sequences
	picked    int   // different experts
	keys      int64 // pairs of a key and a value, over sequences and KV heads
	indexKeys int64 // over sequences
	sampled   int   // rows that lm_head was applied to; 0: it was not read
}

// dense are the matrices that every pass reads whole.
func (m *model) dense() []*weights.Matrix {
	return []*weights.Matrix{m.ehProj, m.qkv, m.o, m.gate, m.sharedGateUp, m.sharedDown}
}

// bytes returns what a pass has to read at least, each byte once: the matrices
// that every row is multiplied with, those of the experts that any row picked,
// a row of embed_tokens for each row, lm_head where logits were made, and of the
// cache the index keys that were scored and the keys and values of the blocks
// that were selected. Activations, norms and what is written are not counted:
// they are small, or stay in a core's cache.
func (m *model) bytes(p pass) int64 {
	total := int64(0)
	for _, w := range m.dense() {
		total += w.Bytes()
	}
	total += (m.w13.Bytes() + m.w2.Bytes()) / int64(m.experts) * int64(p.picked)
	total += m.embed.Bytes() / int64(m.embed.Rows) * int64(p.rows)
	if p.sampled > 0 {
		total += m.lmHead.Bytes()
	}
	total += p.indexKeys * int64(m.indexDim) * m.indexBytes
	return total + p.keys*2*int64(m.headDim)*m.keyBytes
}

// flops returns the multiplications and additions of a pass with weights: two
// for each weight that a row is multiplied with. Attention is not counted.
func (m *model) flops(p pass) float64 {
	size := func(w *weights.Matrix) float64 { return float64(w.Rows) * float64(w.Cols) }
	row := 0.0
	for _, w := range m.dense() {
		row += size(w)
	}
	row += (size(m.w13) + size(m.w2)) / float64(m.experts) * float64(m.perToken)
	return 2 * (row*float64(p.rows) + size(m.lmHead)*float64(p.sampled))
}

// written returns what rows add to a pass of which only keys and values are computed.
func (m *model) written(rows int) (bytes int64, flops float64) {
	size := func(w *weights.Matrix) float64 { return float64(w.Rows) * float64(w.Cols) }
	return m.embed.Bytes() / int64(m.embed.Rows) * int64(rows), 2 * float64(rows) * (size(m.ehProj) + size(m.qkv))
}

// span is the rows of one sequence in a pass: positions from … end−1.
type span struct{ from, end int }

// watcher makes passes of what [mtp.Batch.Observe] shows of one call.
type watcher struct {
	model  *model
	spans  []span // of the pass that is under way
	drafts bool   // lm_head follows, on the last row of each sequence
	now    pass
	passes []pass
}

// observe is for Batch.Observe. A pass ends with stage hidden; the one after it
// has one row for each sequence, at its next position.
func (w *watcher) observe(s mtp.Stage) {
	switch s.Name {
	case "expert_ids":
		w.now.rows = s.Shape[0]
		w.now.picked = distinct(slices.DeleteFunc(slices.Clone(s.Int32), func(id int32) bool {
			return int(id) < w.model.firstExpert || int(id) >= w.model.firstExpert+w.model.experts
		}))
	case "selected_blocks":
		w.cache(s.Int32)
	case "hidden":
		if w.drafts {
			w.now.sampled = len(w.spans)
		}
		w.passes = append(w.passes, w.now)
		w.now = pass{}
		for i := range w.spans {
			s := &w.spans[i]
			s.from, s.end = s.end, s.end+1
		}
	}
}

// cache counts what attention reads of the cache. selected is [rows, KV heads,
// topk], −1 for none. Rows of one sequence share what they select.
func (w *watcher) cache(selected []int32) {
	m := w.model
	for _, s := range w.spans {
		n := (s.end - s.from) * m.kvHeads * m.topk
		rows := selected[:n]
		selected = selected[n:]
		if (s.end+m.block-1)/m.block > m.topk { // otherwise every block is taken
			w.now.indexKeys += int64(s.end)
		}
		for head := range m.kvHeads {
			var blocks []int32
			for row := head; row < len(rows)/m.topk; row += m.kvHeads {
				blocks = append(blocks, rows[row*m.topk:(row+1)*m.topk]...)
			}
			slices.Sort(blocks)
			for _, b := range slices.Compact(blocks) {
				if b >= 0 {
					w.now.keys += int64(min(m.block, s.end-int(b)*m.block))
				}
			}
		}
	}
}

func distinct(ids []int32) int {
	return len(slices.Compact(slices.Sorted(slices.Values(ids))))
}
