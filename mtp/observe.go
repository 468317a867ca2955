package mtp

import (
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Stage is one intermediate result of a step, a run of one module over rows. The stages of
// a step come in this order. They are in Float32 unless the list says Int32; sizes are keys
// of config.json:
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
//	block_scores         [wanted, index heads, blocks]       −Inf: no key that the row sees
//	selected_blocks      [wanted, index heads, topk_blocks]  Int32, ascending, then −1
//	attn_ctx             [wanted, attention heads · head_dim]  before o_proj
//	attn_out             [wanted, hidden_size]               o_proj · attn_ctx
//	post_attn_residual   [wanted, hidden_size]               r
//	moe_norm_out         [wanted, hidden_size]               rms(r; post_attention_layernorm)
//	router_scores        [wanted, num_local_experts]         before the correction bias
//	expert_ids           [wanted, num_experts_per_tok]       Int32, by descending score + bias
//	expert_weights       [wanted, num_experts_per_tok]       of expert_ids
//	moe_routed_out       [wanted, hidden_size]               routed experts
//	shared_out           [wanted, hidden_size]               shared expert
//	moe_out              [wanted, hidden_size]               their sum
//	hidden               [wanted, hidden_size]               what Forward returns
//
// Blocks are those of the longest sequence with a wanted row, up to its last row. A Forward is one step and
// wants all of its rows. A Draft has one step even if Drafts is 0, otherwise one for each
// token of the longest chain; an aligned head always runs all its steps. Each step begins
// with embeds_masked. The first has the batch's rows, in the order of its sequences; a
// later one has a row for each sequence that still drafts, or in an aligned chain all rows
// that the step runs. A step of a Draft computes only the wanted rows past their keys and
// values, most often the last row of each sequence that drafts. Rows names them. If none is
// wanted, the stages from block_scores on are left out.
//
// The same kernels run over the same rows as without Observe, with two differences that
// change no result: launches are not recorded in a graph, and blocks are scored even if all
// of them are selected. The receiver may keep the slices.
type Stage struct {
	Name    string
	Shape   []int     // Shape[0] is the number of rows
	Rows    []int32   // the step's rows that the stage has; nil: all
	Float32 []float32 // row-major; nil where Int32 is set
	Int32   []int32
}

// stageID numbers the stages in their order.
type stageID int

const (
	stageEmbedsMasked stageID = iota
	stageEnormOut
	stageHnormOut
	stageEhProjOut
	stageAttnNormOut
	stageQ
	stageK
	stageV
	stageIndexQ
	stageIndexK
	stageBlockScores
	stageSelectedBlocks
	stageAttnCtx
	stageAttnOut
	stagePostAttnResidual
	stageMoeNormOut
	stageRouterScores
	stageExpertIDs
	stageExpertWeights
	stageMoeRoutedOut
	stageSharedOut
	stageMoeOut
	stageHidden
)

var stageNames = [...]string{
	"embeds_masked", "enorm_out", "hnorm_out", "eh_proj_out", "attn_norm_out", "q", "k", "v", "index_q", "index_k",
	"block_scores", "selected_blocks", "attn_ctx", "attn_out", "post_attn_residual", "moe_norm_out",
	"router_scores", "expert_ids", "expert_weights", "moe_routed_out", "shared_out", "moe_out", "hidden",
}

// saw hands out a whole result. Its width is a row of the given shape; without a shape, one
// dimension.
func (q *queue) saw(id stageID, v values, shape ...int) {
	if len(shape) == 0 {
		shape = []int{v.width}
	}
	q.sawColumns(v, 0, id, shape...)
}

// sawColumns hands out the columns of a result from first on, as rows of the given shape.
func (q *queue) sawColumns(v values, first int, id stageID, shape ...int) {
	width := 1
	for _, n := range shape {
		width *= n
	}
	if all := observed[float32](q, v); all != nil {
		q.emit(id, Stage{Float32: columns(all, v.width, first, width)}, v.rows, shape)
	}
}

// sawScores hands out the scores of the existing blocks: kernels leave room for stride
// blocks.
func (q *queue) sawScores(v values, stride int) {
	heads := v.width / stride
	all := observed[float32](q, v)
	if all == nil {
		return
	}
	blocks := 0
	for _, span := range q.step.spansOut() {
		blocks = max(blocks, (span.End()+q.head.geometry.BlockSize-1)/q.head.geometry.BlockSize)
	}
	q.emit(stageBlockScores, Stage{Float32: columns(all, stride, 0, blocks)}, v.rows, []int{heads, blocks})
}

// sawInts hands out a whole result of int32.
func (q *queue) sawInts(id stageID, v values, shape ...int) {
	if all := observed[int32](q, v); all != nil {
		q.emit(id, Stage{Int32: all}, v.rows, shape)
	}
}

// sawSelected hands out selected blocks, as many for each head as the config asks for.
func (q *queue) sawSelected(v values) {
	g := &q.head.geometry
	all := observed[int32](q, v)
	if all == nil {
		return
	}
	if q.topk < g.TopkBlocks {
		wide := slices.Repeat([]int32{-1}, len(all)/q.topk*g.TopkBlocks)
		for i := range len(all) / q.topk {
			copy(wide[i*g.TopkBlocks:], all[i*q.topk:(i+1)*q.topk])
		}
		all = wide
	}
	q.emit(stageSelectedBlocks, Stage{Int32: all}, v.rows, []int{g.KVHeads, g.TopkBlocks})
}

// observed reads a result, if there is one and the batch has an Observe.
func observed[T float32 | int32](q *queue, v values) []T {
	if q.observe == nil || q.err != nil || v.rows == 0 {
		return nil
	}
	all := make([]T, v.rows*v.width)
	if q.err = hip.ReadOf(q.head.device, all, v.ptr); q.err != nil {
		return nil
	}
	return all
}

func (q *queue) emit(id stageID, s Stage, rows int, shape []int) {
	s.Name, s.Shape = stageNames[id], append([]int{rows}, shape...)
	if id >= stageBlockScores && q.step.Wanted != nil {
		s.Rows = append([]int32(nil), q.step.Wanted...)
	}
	q.observe(s)
}

// columns copies width columns from first on, of rows of stride columns.
func columns(all []float32, stride, first, width int) []float32 {
	values := make([]float32, 0, len(all)/stride*width)
	for at := first; at < len(all); at += stride {
		values = append(values, all[at:at+width]...)
	}
	return values
}
