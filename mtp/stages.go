package mtp

import (
	"errors"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// Stage is one intermediate result of a pass of a module over rows. The stages of a pass
// come in this order, in Int32 where it is said and else in Float32; sizes are keys of
// config.json:
//
//	embeds_masked        [rows, hidden_size]                 e: 0 where the position is 0
//	enorm_out            [rows, hidden_size]                 rms(e; enorm)
//	hnorm_out            [rows, hidden_size]                 rms(h; hnorm)
//	eh_proj_out          [rows, hidden_size]                 x
//	attn_norm_out        [rows, hidden_size]                 rms(x; input_layernorm)
//	q                    [rows, attention heads, head_dim]   normed and rotated
//	k                    [rows, key-value heads, head_dim]   normed and rotated
//	v                    [rows, key-value heads, head_dim]
//	index_q              [rows, index heads, index_dim]      normed and rotated
//	index_k              [rows, index_dim]                   normed and rotated
//	block_scores         [rows, index heads, blocks]         −Inf: no key that the row sees
//	selected_blocks      [rows, index heads, topk_blocks]    Int32, ascending, then −1
//	attn_ctx             [rows, attention heads · head_dim]  before o_proj
//	attn_out             [rows, hidden_size]                 o_proj · attn_ctx
//	post_attn_residual   [rows, hidden_size]                 r
//	moe_norm_out         [rows, hidden_size]                 rms(r; post_attention_layernorm)
//	router_scores        [rows, num_local_experts]           before the correction bias
//	expert_ids           [rows, num_experts_per_tok]         Int32, by descending score + bias
//	expert_weights       [rows, num_experts_per_tok]         of expert_ids
//	moe_routed_out       [rows, hidden_size]                 routed experts
//	shared_out           [rows, hidden_size]                 shared expert
//	moe_out              [rows, hidden_size]                 their sum
//	hidden               [rows, hidden_size]                 what Forward returns
//
// Blocks are those of the longest sequence up to its last row. A Forward is one pass. A
// Draft is a pass for each step, each of which begins with embeds_masked; the first has the
// batch's rows, in the order of its sequences, and later ones a row for each sequence that
// still drafts, or in an aligned chain all that the step runs. The slices are the
// receiver's and may be kept.
type Stage struct {
	Name    string
	Shape   []int     // Shape[0] is rows
	Float32 []float32 // row-major; nil where Int32 is set
	Int32   []int32
}

// observer copies stages to the host.
type observer struct {
	p   *pass
	do  func(Stage) // nil: nothing is copied
	err error
}

// columns hands out cols columns from first of a buffer with stride columns.
func (o *observer) columns(name string, from hip.Ptr, stride, first, cols int, shape ...int) {
	if o.do == nil || o.err != nil {
		return
	}
	rows := o.p.rows
	all := make([]float32, rows*stride)
	if err := hip.ReadOf(o.p.head.device, all, from); err != nil {
		o.err = err
		return
	}
	values := make([]float32, 0, rows*cols)
	for r := range rows {
		values = append(values, all[r*stride+first:r*stride+first+cols]...)
	}
	o.do(Stage{Name: name, Shape: append([]int{rows}, shape...), Float32: values})
}

// floats hands out a whole buffer, of rows of the given shape.
func (o *observer) floats(name string, from hip.Ptr, shape ...int) {
	cols := 1
	for _, n := range shape {
		cols *= n
	}
	o.columns(name, from, cols, 0, cols, shape...)
}

func (o *observer) ints(name string, from hip.Ptr, shape ...int) {
	if o.do == nil || o.err != nil {
		return
	}
	n := o.p.rows
	for _, s := range shape {
		n *= s
	}
	values := make([]int32, n)
	o.err = errors.Join(o.err, hip.ReadOf(o.p.head.device, values, from))
	o.do(Stage{Name: name, Shape: append([]int{o.p.rows}, shape...), Int32: values})
}

func (o *observer) embedding(masked hip.Ptr) {
	w, n := o.p.w, o.p.head.config.HiddenSize
	o.floats("embeds_masked", masked, n)
	o.columns("enorm_out", w.both.ptr, 2*n, 0, n, n)
	o.columns("hnorm_out", w.both.ptr, 2*n, n, n, n)
	o.floats("eh_proj_out", w.x.ptr, n)
}

func (o *observer) attention(batch *attention.Batch) {
	w, n, g := o.p.w, o.p.head.config.HiddenSize, &o.p.head.geometry
	o.floats("attn_norm_out", w.normed.ptr, n)
	column := 0
	for _, part := range []struct {
		name       string
		heads, dim int
	}{{"q", g.Heads, g.HeadDim}, {"k", g.KVHeads, g.HeadDim}, {"v", g.KVHeads, g.HeadDim}, {"index_q", g.IndexHeads, g.IndexDim}} {
		o.columns(part.name, w.qkv.ptr, g.Columns(), column, part.heads*part.dim, part.heads, part.dim)
		column += part.heads * part.dim
	}
	o.columns("index_k", w.qkv.ptr, g.Columns(), column, g.IndexDim, g.IndexDim)
	o.floats("block_scores", w.scores.ptr, g.IndexHeads, batch.Blocks())
	o.ints("selected_blocks", w.selected.ptr, g.IndexHeads, g.TopkBlocks)
	o.floats("attn_ctx", w.context.ptr, g.Heads*g.HeadDim)
	o.floats("attn_out", w.attnOut.ptr, n)
}

func (o *observer) experts() {
	w, c := o.p.w, o.p.head.config
	n, s := c.HiddenSize, w.moe.Stages()
	o.floats("post_attn_residual", w.x.ptr, n)
	o.floats("moe_norm_out", w.normed.ptr, n)
	o.floats("router_scores", s.RouterScores, c.NumLocalExperts)
	o.ints("expert_ids", s.ExpertIDs, c.NumExpertsPerTok)
	o.floats("expert_weights", s.ExpertWeights, c.NumExpertsPerTok)
	o.floats("moe_routed_out", s.Routed, n)
	o.floats("shared_out", s.Shared, n)
	o.floats("moe_out", s.MoEOut, n)
	o.floats("hidden", o.p.out, n)
}
