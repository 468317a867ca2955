package mtp

import (
	"fmt"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// pass is one run of one module over ragged rows. Its rows are encoded, room is made
// for it, and then it is launched, on the head's device or on one that records.
type pass struct {
	head   *Head
	w      *workspace
	batch  *resolved
	module int
	layer  int // of the cache
	spans  []passSpan
	rows   int
	tokens []int32 // of the rows; −1−i stands for draft i of the call
	wanted []int32 // rows that hidden states are wanted of: each span's last, or none; nil: all

	encoded  *attention.Batch
	tokensAt int              // in the workspace's words; rows of the batch follow
	attends  *attention.Batch // the wanted rows
	wantedAt int              // in the words; rows of attends follow

	hidden, embeds input   // of the batch, at the first step
	states         hip.Ptr // that the rows start from
	out            hip.Ptr // hidden states of the wanted rows: must not be the memory of states
	drafts         int     // that tokens may stand for
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
	p.tokens = append(p.tokens, tokens...)
	p.rows += len(tokens)
}

// lastRows returns the last row of each span.
func (p *pass) lastRows() []int32 {
	rows, end := make([]int32, len(p.spans)), 0
	for i, s := range p.spans {
		end += s.rows
		rows[i] = int32(end - 1)
	}
	return rows
}

// want has the pass make hidden states for these rows alone, at most the last of each
// span: of the others only keys and values are needed. What is observed are all rows.
func (p *pass) want(rows []int32) {
	if len(rows) < p.rows && p.batch.Observe == nil {
		p.wanted = append([]int32{}, rows...) // not nil
	}
}

// outRows is the number of rows that the pass makes hidden states for.
func (p *pass) outRows() int {
	if p.wanted != nil {
		return len(p.wanted)
	}
	return p.rows
}

// takeInput puts of the batch's hidden states and embeddings among the words what
// belongs there, before everything else: launches that find them where they were are
// the same as before.
func (p *pass) takeInput() {
	n := p.rows * p.head.config.HiddenSize
	p.hidden = p.w.takeInput(&p.batch.Hidden, n)
	if p.batch.Embeds.given() {
		p.embeds = p.w.takeInput(&p.batch.Embeds, n)
	}
	p.w.words.align()
}

// loadInput brings the rest of them to the device.
func (p *pass) loadInput() error {
	if err := p.w.loadInput(&p.hidden, &p.batch.Hidden, &p.w.hiddenIn); err != nil || !p.batch.Embeds.given() {
		return err
	}
	return p.w.loadInput(&p.embeds, &p.batch.Embeds, &p.w.embeds)
}

// encode appends the rows to the workspace's words, as what the i-th pass of a
// call needs of them: tokens, positions, slots and block tables. From here on the
// rows count as written.
func (p *pass) encode(i int) (err error) {
	w := p.w
	if p.encoded, err = w.batchOf(p.batch.cache.kv, 2*i); err != nil {
		return err
	}
	spans := make([]attention.Span, len(p.spans))
	for i, s := range p.spans {
		rows := &p.batch.Sequences[s.sequence]
		if rows.Sequence == nil {
			spans[i] = attention.Span{BlockTable: rows.BlockTable, Position: s.from, Rows: s.rows}
			continue
		}
		if err := rows.Sequence.kv.MarkWritten(p.layer, s.from, s.end()); err != nil {
			return fmt.Errorf("sequence %d: %w", s.sequence, err)
		}
		spans[i] = rows.Sequence.kv.Span(p.layer, s.from, s.rows)
	}
	p.tokensAt = w.words.add(p.tokens)
	granule := w.granule(p.batch.Observe != nil)
	w.words.values, err = p.encoded.Encode(w.words.values, granule, spans...)
	if p.attends = p.encoded; err != nil || len(p.wanted) == 0 {
		return err
	}
	if p.attends, err = w.batchOf(p.batch.cache.kv, 2*i+1); err != nil {
		return err
	}
	for i := range spans {
		spans[i].Position, spans[i].Rows = spans[i].Position+spans[i].Rows-1, 1
	}
	p.wantedAt = w.words.add(p.wanted)
	w.words.values, err = p.attends.Encode(w.words.values, granule, spans...)
	return err
}

// place tells the pass that the words are on the device, or will be when it runs.
func (p *pass) place() {
	p.encoded.Place(p.w.words.at(p.tokensAt + p.rows))
	if len(p.wanted) > 0 {
		p.attends.Place(p.w.words.at(p.wantedAt + len(p.wanted)))
	}
	p.hidden.place(&p.w.words)
	p.embeds.place(&p.w.words)
	if p.hidden.n > 0 {
		p.states = p.hidden.states
	}
}

// launch computes p.out from the inputs on d, in the order of the package's formulas.
func (p *pass) launch(d hip.Device) error {
	h, w, c := p.head, p.w, p.head.config
	m, n, rows := &h.modules[p.module], c.HiddenSize, p.rows
	batch := p.encoded.On(d)
	o := observer{p: p, do: p.batch.Observe}
	masked := hip.Ptr(0)
	if o.do != nil {
		masked = w.masked.ptr
	}
	for _, in := range []*input{&p.hidden, &p.embeds} {
		if err := launchInput(d, in); err != nil {
			return err
		}
	}
	err := launchEmbedNorm(d, h.embed, &embedNormArgs{
		Out: w.both.ptr, Masked: masked, States: p.states, Embeds: p.embeds.states,
		Tokens: w.words.at(p.tokensAt), Drafted: w.results.at(0), Positions: batch.Positions(), EmbedNorm: m.enorm, HiddenNorm: m.hnorm, Eps: c.RMSNormEps,
		Drafts: int64(p.drafts), Rows: int32(rows), Hidden: int32(n), Vocab: int32(c.VocabSize),
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
	qkv := attention.QKV{Data: w.qkv.ptr, Stride: h.geometry.Columns()}
	if err := p.insert(d, batch, m, qkv); err != nil {
		return err
	}
	if p.outRows() == 0 {
		return o.err
	}
	x := w.x.ptr
	if p.wanted != nil {
		x, qkv.Data, rows = w.wantedX.ptr, w.wantedQKV.ptr, len(p.wanted)
		if err := p.take(d, x, w.x.ptr, n); err != nil {
			return err
		}
		if err := p.take(d, qkv.Data, w.qkv.ptr, qkv.Stride); err != nil {
			return err
		}
		batch = p.attends.On(d)
	}
	if err := p.attend(d, batch, m, qkv); err != nil {
		return err
	}
	o.attention(batch)

	if err := norm.AddRMSNorm(d, w.normed.ptr, x, w.attnOut.ptr, m.postNorm, rows, n, c.RMSNormEps); err != nil {
		return err
	}
	if err := m.experts.Forward(d, &w.moe, p.out, x, w.normed.ptr, rows); err != nil {
		return err
	}
	o.experts()
	return o.err
}

// take copies the wanted rows together, of width values each.
func (p *pass) take(d hip.Device, to, from hip.Ptr, width int) error {
	return launchTakeRows(d, &takeRowsArgs{
		Out: to, From: from, Sources: p.w.words.at(p.wantedAt),
		Rows: int32(len(p.wanted)), FromRows: int32(p.rows), Width: int32(width),
	})
}

// makeRoom grows the workspace to the pass, whose rows are encoded.
func (p *pass) makeRoom() error {
	w, g, n, rows, out := p.w, &p.head.geometry, p.head.config.HiddenSize, p.rows, p.outRows()
	observed := 0
	if p.batch.Observe != nil {
		observed = rows
	}
	w.moe.Observe = observed > 0
	if err := w.moe.Reserve(w.device, &p.head.modules[p.module].experts.Config, out); err != nil {
		return err
	}
	return w.grow(
		need{&w.masked, observed * n, 4}, need{&w.both, rows * 2 * n, 4}, need{&w.x, rows * n, 4}, need{&w.normed, rows * n, 4},
		need{&w.qkv, rows * g.Columns(), 4}, need{&w.wantedX, len(p.wanted) * n, 4}, need{&w.wantedQKV, len(p.wanted) * g.Columns(), 4},
		need{&w.scores, out * g.IndexHeads * p.attends.Blocks(), 4}, need{&w.selected, out * g.IndexHeads * g.TopkBlocks, 4},
		need{&w.context, out * g.Heads * g.HeadDim, 4}, need{&w.attnOut, out * n, 4},
	)
}

// insert computes queries, keys and values of normed, and keeps keys and values.
func (p *pass) insert(d hip.Device, batch *attention.Batch, m *module, qkv attention.QKV) error {
	if err := m.qkv.Product(d, qkv.Data, p.w.normed.ptr, p.rows); err != nil {
		return err
	}
	return attention.Insert(batch, p.layer, qkv, attention.Params{
		QNorm: m.qNorm, KNorm: m.kNorm, IndexQNorm: m.indexQNorm, IndexKNorm: m.indexKNorm,
		InverseFrequencies: p.head.frequencies,
	})
}

// attend computes attnOut = o_proj · attention, of the batch's rows.
func (p *pass) attend(d hip.Device, batch *attention.Batch, m *module, qkv attention.QKV) error {
	h, w := p.head, p.w
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
	return m.o.Product(d, w.attnOut.ptr, w.context.ptr, batch.Rows())
}
