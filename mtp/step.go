package mtp

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/plan"
)

// step is a planned step in the form that kernels need. It is staged, room is made for it,
// and then it is queued, on the head's device or on one that records.
type step struct {
	*plan.Step
	pieces []*step          // that run one after another in its place; most often one, itself
	whole  [1]*step         // the memory of pieces then
	all    *attention.Batch // its rows
	wanted *attention.Batch // those that hidden states are made for

	tokensAt, wantedAt, sourcesAt, sharedAt, picksAt, keepsAt, carriedAt int // in the words
	allAt, wantedRowsAt                                                  int
	paramsAt, maskRowsAt, masksAt, masks                                 int // how drafts are drawn
	plansAt                                                              int // of ranks

	hidden, embeds input   // of the batch, at the first step; call.embeds is for all
	states         hip.Ptr // that the rows start from
	drafted        hip.Ptr // the drafts that tokens may stand for
	draftedRoom    int     // how many there can be
	out            hip.Ptr // hidden states of the wanted rows; never the memory of states
}

// stageInput stages small hidden states and embeddings of the batch with the words. It
// comes first, so that the addresses of the words are those of the call before. Embeddings
// that steps of a later part read, too, do not travel with the words, which may move then.
func (c *call) stageInput(s *step, once bool) {
	n := c.rows * c.head.config.HiddenSize
	s.hidden = c.w.stageInput(&c.batch.Hidden, n)
	switch {
	case !c.batch.Embeds.given():
	case once:
		s.embeds = c.w.stageInput(&c.batch.Embeds, n)
	default:
		s.embeds = input{n: n}
	}
	c.w.up.Align()
}

// loadInput brings the rest of them to the device.
func (c *call) loadInput(s *step) error {
	if err := c.w.loadInput(&s.hidden, &c.batch.Hidden, &c.w.hiddenIn); err != nil {
		return err
	}
	return c.w.loadInput(&s.embeds, &c.batch.Embeds, &c.w.embedsIn)
}

// stage adds the rows of the next step of the call to the words: tokens, positions, slots
// and block tables. It marks the rows as written, since a row attends to itself.
func (c *call) stage(s *step) error {
	most := c.head.options.mostRows()
	if c.batch.Observe != nil { // an observer sees all rows of a step
		most = s.Rows()
	}
	if s.Rows() <= most {
		s.whole[0] = s
		s.pieces = s.whole[:]
	} else {
		for _, piece := range s.Split(most) {
			s.pieces = append(s.pieces, &step{Step: piece, drafted: s.drafted, draftedRoom: s.draftedRoom})
		}
	}
	for _, piece := range s.pieces {
		if err := c.stageRows(piece); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) stageRows(s *step) (err error) {
	spans := c.w.spans[:0] // Encode keeps none of them
	for _, span := range s.Spans {
		of, err := c.pages.Span(span.Sequence, s.Layer, span.From, span.Rows)
		if err != nil {
			return fmt.Errorf("mtp: Sequences[%d]: %w", span.Sequence, err)
		}
		spans = append(spans, of)
	}
	c.w.spans = spans
	s.tokensAt = c.w.up.Add(s.Tokens)
	s.all, s.allAt, err = c.encode(spans)
	if s.wanted = s.all; err != nil || len(s.Wanted) == 0 {
		return err
	}
	s.wantedAt = c.w.up.Add(s.Wanted)
	last := spans[:0]
	for _, j := range s.WantedSpans() {
		span := s.Spans[j]
		row, err := c.pages.Span(span.Sequence, s.Layer, span.From+span.Rows-1, 1)
		if err != nil {
			return fmt.Errorf("mtp: Sequences[%d]: %w", span.Sequence, err)
		}
		last = append(last, row)
	}
	s.wanted, s.wantedRowsAt, err = c.encode(last)
	return err
}

// encode adds spans to the words as kernels read them.
func (c *call) encode(spans []attention.Span) (b *attention.Batch, at int, err error) {
	if b, err = c.w.batchOf(c.cache.kv, c.encoded); err != nil {
		return nil, 0, err
	}
	c.encoded++
	at, err = c.w.up.Append(func(words []int32) ([]int32, error) { return b.Encode(words, c.w.granule(), spans...) })
	return b, at, err
}

// spansOut returns the spans with rows that hidden states are made for.
func (s *step) spansOut() []plan.Span {
	if s.Wanted == nil {
		return s.Spans
	}
	var spans []plan.Span
	for _, j := range s.WantedSpans() {
		spans = append(spans, s.Spans[j])
	}
	return spans
}

// place gives a step the addresses of its words, after their upload.
func (c *call) place(s *step) {
	for _, piece := range s.pieces {
		piece.all.Place(c.w.up.At(piece.allAt))
		if piece.wanted != piece.all {
			piece.wanted.Place(c.w.up.At(piece.wantedRowsAt))
		}
	}
	s.hidden.place(c.w)
	s.embeds.place(c.w)
	if s.embeds.n > 0 {
		c.embeds = values{s.embeds.states, c.rows, c.head.config.HiddenSize}
	}
	if s.hidden.n > 0 {
		s.states = s.hidden.states
	}
}

// reserve grows the workspace for a step that was staged.
func (c *call) reserve(s *step) error {
	for _, piece := range s.pieces {
		if err := c.reserveRows(piece); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) reserveRows(s *step) error {
	h, w, g := c.head, c.w, &c.head.geometry
	n, rows, out, wanted := h.config.HiddenSize, s.Rows(), s.OutRows(), len(s.Wanted)
	observed := 0
	observe := c.batch.Observe != nil
	if observe {
		observed = rows
	}
	if err := w.moe.Reserve(w.device, &h.experts, out, observe); err != nil {
		return err
	}
	if err := errors.Join(w.split.Reserve(w.device, rows, 2*n), w.split.Reserve(w.device, out, g.Heads*g.HeadDim)); err != nil {
		return err
	}
	if h.options.Activations != hip.ActivationsExact {
		if err := errors.Join(w.rounded.Reserve(w.device, rows, 2*n), w.rounded.Reserve(w.device, out, g.Heads*g.HeadDim)); err != nil {
			return err
		}
	}
	return w.grow(
		need{&w.masked, observed * n}, need{&w.both, rows * 2 * n}, need{&w.x, rows * n}, need{&w.normed, rows * n},
		need{&w.qkv, rows * g.Columns()}, need{&w.wantedX, wanted * n}, need{&w.wantedQKV, wanted * g.Columns()},
		need{&w.scores, out * g.KVHeads * s.wanted.Blocks()}, need{&w.selected, out * g.KVHeads * c.cache.topk},
		need{&w.attnCtx, out * g.Heads * g.HeadDim}, need{&w.attnOut, out * n}, need{&w.moeNormed, out * n},
	)
}

// queue runs a step on d, which may stand for the head's device: what is kept of the batch's
// rows, and what then leads to hidden states on after.
func (c *call) queue(d, after hip.Device, s *step) error {
	if err := s.hidden.widen(d); err != nil {
		return err
	}
	if err := s.embeds.widen(d); err != nil {
		return err
	}
	q := &queue{head: c.head, workspace: c.w, after: after, topk: c.cache.topk, observe: c.batch.Observe, embeds: c.embeds}
	row, out, bytes := int64(0), int64(0), 4*int64(c.head.config.HiddenSize)
	for _, q.step = range s.pieces {
		q.device = d
		if q.step != s {
			q.step.states, q.step.out = s.states.Add(row*bytes), s.out.Add(out*bytes)
			row, out = row+int64(q.step.Rows()), out+int64(q.step.OutRows())
		}
		c.head.modules[s.Module].forward(q)
	}
	return q.err
}
