package mtp

import (
	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/moe"
	"github.com/drafthead/drafthead/mtp/internal/kernels"
	"github.com/drafthead/drafthead/norm"
	"github.com/drafthead/drafthead/weights"
)

// queue queues the operations of a forward on a device, each with its result in a buffer of
// the workspace. After the first error, which is err, its methods do nothing, like those of
// a bufio.Writer. An operation over no rows does nothing either.
type queue struct {
	*workspace
	head    *Head
	device  hip.Device // the head's, or one that stands for it
	after   hip.Device // the same once keys and values are in the cache, see draftDevice
	step    *step
	topk    int         // blocks that there is room for, see [Cache]
	embeds  values      // that negative tokens stand for; see useEmbeds
	observe func(Stage) // nil: nothing is observed
	err     error
}

// values is float32 (or int32) in device memory: rows × width.
type values struct {
	ptr         hip.Ptr
	rows, width int
}

// do runs an operation over rows, unless there was an error.
func (q *queue) do(rows int, operation func() error) {
	if q.err == nil && rows > 0 {
		q.err = operation()
	}
}

// embed builds the input of eh_proj, from the rows' tokens and previous hidden states.
func (q *queue) embed(enorm, hnorm hip.Ptr) values {
	c, s := q.head.config, q.step
	both, masked := values{q.both.Ptr(), s.Rows(), 2 * c.HiddenSize}, values{0, s.Rows(), c.HiddenSize}
	if q.observe != nil {
		masked.ptr = q.masked.Ptr()
	}
	q.do(both.rows, func() error {
		return kernels.EmbedNorm(q.device, q.head.embed, &kernels.EmbedNormArgs{
			Out: both.ptr, Masked: masked.ptr, States: s.states, Embeds: q.embeds.ptr,
			Tokens: q.up.At(s.tokensAt), Drafted: s.drafted, Positions: q.up.At(s.allAt),
			EmbedNorm: enorm, HiddenNorm: hnorm, Eps: c.Attention.Eps, Drafts: int64(s.draftedRoom), EmbedRows: int64(q.embeds.rows),
			Rows: int32(both.rows), Hidden: int32(c.HiddenSize), Vocab: int32(c.VocabSize),
		})
	})
	q.saw(stageEmbedsMasked, masked)
	q.sawColumns(both, 0, stageEnormOut, c.HiddenSize)
	q.sawColumns(both, c.HiddenSize, stageHnormOut, c.HiddenSize)
	return both
}

// product sets to to w · x.
func (q *queue) product(to *hip.Buffer, w *weights.Matrix, x values) values {
	y := values{to.Ptr(), x.rows, w.Rows}
	q.do(x.rows, func() error {
		if !w.Quantizes(q.head.options.Activations, x.rows) {
			return w.ProductSplit(q.device, y.ptr, x.ptr, x.rows, &q.split)
		}
		if err := q.rounded.Quantize(q.device, x.ptr, x.rows, x.width); err != nil {
			return err
		}
		return w.ProductQuantized(q.device, y.ptr, x.ptr, &q.rounded)
	})
	if to == &q.x {
		q.saw(stageEhProjOut, y)
	}
	return y
}

// attentionOut is the product with o_proj, summed over the ranks. Of those that hold the
// same heads one adds them.
func (q *queue) attentionOut(o *weights.Matrix, context values) values {
	var y values
	if q.head.adds() {
		y = q.product(&q.attnOut, o, context)
	} else {
		y = values{q.attnOut.Ptr(), context.rows, o.Rows}
		q.do(y.rows, func() error { return kernels.Clear(q.device, y.ptr, y.rows*y.width) })
	}
	q.sum(y)
	q.saw(stageAttnOut, y)
	return y
}

// rms normalizes x for attention.
func (q *queue) rms(x values, weight hip.Ptr) values {
	y := values{q.normed.Ptr(), x.rows, x.width}
	q.do(x.rows, func() error {
		return norm.RMSNorm(q.device, y.ptr, x.ptr, weight, x.rows, x.width, q.head.config.Attention.Eps)
	})
	q.saw(stageAttnNormOut, y)
	return y
}

// insert normalizes and rotates queries and keys in place, and writes keys, values and
// index keys to the step's layer of the cache.
func (q *queue) insert(qkv values, m *module) {
	q.do(qkv.rows, func() error {
		return attention.Insert(q.step.all.On(q.device), q.step.Layer, qkv.ptr, attention.Params{
			QNorm: m.qNorm, KNorm: m.kNorm, IndexQNorm: m.indexQNorm, IndexKNorm: m.indexKNorm,
		})
	})
	g, column := &q.head.geometry, 0
	for _, part := range []struct {
		stage      stageID
		heads, dim int
	}{{stageQ, g.Heads, g.HeadDim}, {stageK, g.KVHeads, g.HeadDim}, {stageV, g.KVHeads, g.HeadDim}, {stageIndexQ, g.KVHeads, g.IndexDim}} {
		q.sawColumns(qkv, column, part.stage, part.heads, part.dim)
		column += part.heads * part.dim
	}
	q.sawColumns(qkv, column, stageIndexK, g.IndexDim)
}

// wanted gathers the wanted rows, unless all are wanted.
func (q *queue) wanted(x, qkv values) (values, values) {
	if q.step.Wanted == nil {
		return x, qkv
	}
	return q.take(&q.wantedX, x), q.take(&q.wantedQKV, qkv)
}

func (q *queue) take(to *hip.Buffer, from values) values {
	taken := values{to.Ptr(), len(q.step.Wanted), from.width}
	q.do(taken.rows, func() error {
		return kernels.TakeRows(q.device, &kernels.TakeRowsArgs{
			Out: taken.ptr, From: from.ptr, Sources: q.up.At(q.step.wantedAt),
			Rows: int32(taken.rows), FromRows: int32(from.rows), Width: int32(taken.width),
		})
	})
	return taken
}

// selectBlocks chooses the blocks of keys that each row attends to.
func (q *queue) selectBlocks(qkv values) values {
	g, batch := &q.head.geometry, q.step.wanted.On(q.device)
	selected := values{q.selected.Ptr(), qkv.rows, g.KVHeads * q.topk}
	// While every block is taken the scores change nothing.
	if batch.Blocks() > q.topk || q.observe != nil {
		q.do(qkv.rows, func() error { return attention.Scores(batch, q.step.Layer, qkv.ptr, q.scores.Ptr()) })
		q.sawScores(values{q.scores.Ptr(), qkv.rows, g.KVHeads * batch.Blocks()}, batch.Blocks())
	}
	q.do(qkv.rows, func() error { return attention.Select(batch, q.scores.Ptr(), selected.ptr) })
	q.sawSelected(selected)
	return selected
}

// attend computes softmax attention over the chosen blocks.
func (q *queue) attend(qkv, blocks values) values {
	g := &q.head.geometry
	context := values{q.attnCtx.Ptr(), qkv.rows, g.Heads * g.HeadDim}
	q.do(qkv.rows, func() error {
		return attention.Attend(q.step.wanted.On(q.device), q.step.Layer, qkv.ptr, blocks.ptr, context.ptr)
	})
	q.saw(stageAttnCtx, context)
	return context
}

// addRMS adds y to x, in place, and normalizes the sum for the experts.
func (q *queue) addRMS(x, y values, weight hip.Ptr) (sum, normed values) {
	normed = values{q.moeNormed.Ptr(), x.rows, x.width}
	q.do(x.rows, func() error {
		return norm.AddRMSNorm(q.device, normed.ptr, x.ptr, y.ptr, weight, x.rows, x.width, q.head.config.Attention.Eps)
	})
	q.saw(stagePostAttnResidual, x)
	q.saw(stageMoeNormOut, normed)
	return x, normed
}

// experts computes the step's hidden states, r + moe(n).
func (q *queue) experts(e *moe.Experts, r, n values) {
	residual := r.ptr
	if rank := q.head.ranks; rank != nil && rank.group.Rank() > 0 {
		residual = 0 // added once
	}
	q.do(r.rows, func() error { return e.Forward(q.device, &q.moe, q.step.out, residual, n.ptr, r.rows) })
	q.sum(values{q.step.out, r.rows, r.width})
	c, at := q.head.config, q.moe.Stage
	q.saw(stageRouterScores, values{at("router_scores"), r.rows, c.MoE.Experts})
	q.sawInts(stageExpertIDs, values{at("expert_ids"), r.rows, c.MoE.TopK}, c.MoE.TopK)
	q.saw(stageExpertWeights, values{at("expert_weights"), r.rows, c.MoE.TopK})
	q.saw(stageMoeRoutedOut, values{at("moe_routed_out"), r.rows, r.width})
	if shared := at("shared_out"); shared != 0 { // 0: another rank's
		q.saw(stageSharedOut, values{shared, r.rows, r.width})
	}
	q.saw(stageMoeOut, values{at("moe_out"), r.rows, r.width})
	q.saw(stageHidden, values{q.step.out, r.rows, r.width})
}
