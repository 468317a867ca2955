package mtp

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// pass is one run of one module over ragged rows.
type pass struct {
	head   *Head
	w      *workspace
	batch  *resolved
	module int
	layer  int // of the cache
	spans  []passSpan
	rows   int

	tokens, positions []int32
	states, embeds    hip.Ptr // inputs
	out               hip.Ptr // hidden states: must not be the memory of states
}

// passSpan is the rows of Sequences[sequence] at positions from … from+rows−1.
type passSpan struct {
	sequence, from, rows int
}

func (s *passSpan) end() int { return s.from + s.rows }

// newPass returns the pass over all rows of the batch.
func (h *Head) newPass(w *workspace, r *resolved, module int) *pass {
	p := &pass{head: h, w: w, batch: r, module: module, layer: module}
	for i := range r.Sequences {
		s := &r.Sequences[i]
		p.add(i, s.Position, s.Tokens...)
	}
	return p
}

// add appends rows of a sequence.
func (p *pass) add(sequence, from int, tokens ...int32) {
	p.spans = append(p.spans, passSpan{sequence, from, len(tokens)})
	for i, t := range tokens {
		p.tokens, p.positions = append(p.tokens, t), append(p.positions, int32(from+i))
	}
	p.rows += len(tokens)
}

// loadInput brings the batch's hidden states and embeddings to the device.
func (p *pass) loadInput() (err error) {
	n := p.rows * p.head.config.HiddenSize
	if p.states, err = p.w.stage(&p.batch.Hidden, &p.w.hiddenIn, n); err != nil {
		return err
	}
	if p.batch.Embeds.given() {
		p.embeds, err = p.w.stage(&p.batch.Embeds, &p.w.embeds, n)
	}
	return err
}

// describe uploads the rows: tokens, positions, slots and block tables.
func (p *pass) describe() (*attention.Batch, error) {
	spans := make([]attention.Span, len(p.spans))
	for i, s := range p.spans {
		rows := &p.batch.Sequences[s.sequence]
		if rows.Sequence == nil {
			spans[i] = attention.Span{BlockTable: rows.BlockTable, Position: s.from, Rows: s.rows}
			continue
		}
		if err := rows.Sequence.kv.MarkWritten(p.layer, s.from, s.end()); err != nil {
			return nil, fmt.Errorf("sequence %d: %w", s.sequence, err)
		}
		spans[i] = rows.Sequence.kv.Span(p.layer, s.from, s.rows)
	}
	d, w := p.head.device, p.w
	rows, err := w.batchOf(p.batch.cache.kv)
	if err != nil {
		return nil, err
	}
	if err := rows.Upload(spans...); err != nil {
		return nil, err
	}
	if err := w.grow(need{&w.tokens, p.rows, 4}, need{&w.positions, p.rows, 4}); err != nil {
		return nil, err
	}
	return rows, errors.Join(hip.WriteOf(d, w.tokens.ptr, p.tokens), hip.WriteOf(d, w.positions.ptr, p.positions))
}

// run computes p.out from the inputs, in the order of model.md's forward.
func (p *pass) run() error {
	h, w, d, c := p.head, p.w, p.head.device, p.head.config
	m, n, rows := &h.modules[p.module], c.HiddenSize, p.rows
	batch, err := p.describe()
	if err != nil {
		return err
	}
	if err := p.makeRoom(batch.Blocks()); err != nil {
		return err
	}
	o := observer{p: p, do: p.batch.Observe}
	masked := hip.Ptr(0)
	if o.do != nil {
		masked = w.masked.ptr
	}
	err = launchEmbedNorm(d, &embedNormArgs{
		Out: w.both.ptr, Masked: masked, States: p.states, Embeds: p.embeds, Table: h.embed.Table(),
		Tokens: w.tokens.ptr, Positions: w.positions.ptr, EmbedNorm: m.enorm, HiddenNorm: m.hnorm, Eps: c.RMSNormEps,
		Rows: int32(rows), Hidden: int32(n), Segments: int32(len(h.embed.Segments)), Vocab: int32(c.VocabSize),
	})
	if err != nil {
		return err
	}
	if err := m.ehProj.Product(d, w.x.ptr, w.both.ptr, rows); err != nil {
		return err
	}
	o.embedding(masked)

	if err := norm.RMSNorm(d, w.normed.ptr, w.x.ptr, m.inputNorm, rows, n, c.RMSNormEps); err != nil {
		return err
	}
	if err := p.attend(batch, m); err != nil {
		return err
	}
	o.attention(batch)

	if err := norm.AddRMSNorm(d, w.normed.ptr, w.x.ptr, w.attnOut.ptr, m.postNorm, rows, n, c.RMSNormEps); err != nil {
		return err
	}
	w.moe.Observe = o.do != nil
	if err := m.experts.Forward(d, &w.moe, p.out, w.x.ptr, w.normed.ptr, rows); err != nil {
		return err
	}
	o.experts()
	return errors.Join(o.err, d.Sync())
}

// makeRoom grows the workspace to the pass, whose sequences have up to blocks blocks.
func (p *pass) makeRoom(blocks int) error {
	w, g, n, rows := p.w, &p.head.geometry, p.head.config.HiddenSize, p.rows
	observed := 0
	if p.batch.Observe != nil {
		observed = rows
	}
	return w.grow(
		need{&w.masked, observed * n, 4}, need{&w.both, rows * 2 * n, 4}, need{&w.x, rows * n, 4}, need{&w.normed, rows * n, 4},
		need{&w.qkv, rows * g.Columns(), 4}, need{&w.scores, rows * g.IndexHeads * blocks, 4},
		need{&w.selected, rows * g.IndexHeads * g.TopkBlocks, 4}, need{&w.context, rows * g.Heads * g.HeadDim, 4},
		need{&w.attnOut, rows * n, 4},
	)
}

// attend computes attnOut = o_proj · attention(normed).
func (p *pass) attend(batch *attention.Batch, m *module) error {
	h, w, d := p.head, p.w, p.head.device
	if err := m.qkv.Product(d, w.qkv.ptr, w.normed.ptr, p.rows); err != nil {
		return err
	}
	qkv := attention.QKV{Data: w.qkv.ptr, Stride: h.geometry.Columns()}
	params := attention.Params{
		QNorm: m.qNorm, KNorm: m.kNorm, IndexQNorm: m.indexQNorm, IndexKNorm: m.indexKNorm,
		InverseFrequencies: h.frequencies,
	}
	if err := attention.Insert(batch, p.layer, qkv, params); err != nil {
		return err
	}
	// While every candidate is taken the scores change nothing.
	if batch.Blocks() > h.geometry.TopkBlocks || p.batch.Observe != nil {
		if err := attention.Scores(batch, p.layer, qkv, w.scores.ptr); err != nil {
			return err
		}
	}
	if err := attention.Select(batch, w.scores.ptr, w.selected.ptr); err != nil {
		return err
	}
	if err := attention.Attend(batch, p.layer, qkv, w.selected.ptr, w.context.ptr); err != nil {
		return err
	}
	return m.o.Product(d, w.attnOut.ptr, w.context.ptr, p.rows)
}
