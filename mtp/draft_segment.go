package mtp

import (
	"context"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/norm"
)

// draftStep is one step of a chain: a pass, and what is made of its hidden states.
// Rows are listed in ascending order.
type draftStep struct {
	*pass
	sources []int32 // of its states: rows of what the step before gives, −1−c for carried row c; none at step 0
	picks   []int32 // rows that a token is drafted from
	keeps   []int32 // rows that are read back, for the next call

	sourcesAt, picksAt, keepsAt int // in the workspace's words
	firstDraft, firstKeep       int // in the results
}

// spanOf returns the span that a row is of.
func (s *draftStep) spanOf(row int32) *passSpan {
	end := 0
	for i := range s.spans {
		if end += s.spans[i].rows; int(row) < end {
			return &s.spans[i]
		}
	}
	return nil
}

// segment is steps of a chain whose results are read together, in one buffer of room for
// all drafts that there can be:
//
//	ids            [drafts]                      int32
//	probabilities  [drafts]                      float32
//	               to a multiple of 16 bytes
//	kept rows      [keeps, hidden_size]          float32
//
// The steps are queued part by part, each with the words that it needs.
type segment struct {
	*drafting
	most   int          // steps
	steps  []*draftStep // of all parts
	queued int          // of them
	before *draftStep   // what was queued before the part

	carried       []int32 // bits of the carried rows' values, of the part
	carriedAt     int     // in the words
	drafts, keeps int     // planned
	room          int     // for drafts
}

// begin makes room for the results, and begins with the words of the first part.
func (s *segment) begin() error {
	sequences := len(s.batch.Sequences)
	s.room, s.before = sequences*s.most, s.last
	keeps := 0
	if s.head.chain == ChainAligned {
		keeps = s.room
	}
	if err := s.w.begin(); err != nil {
		return err
	}
	return s.w.results.expect(s.w.device, s.w.sharer, s.keepsAt()+keeps*s.head.config.HiddenSize)
}

// add plans a step behind the others, if it has rows.
func (s *segment) add(step *draftStep) {
	if step.rows == 0 {
		return
	}
	step.firstDraft, step.firstKeep = s.drafts, s.keeps
	for i, row := range step.picks {
		sequence := step.spanOf(row).sequence
		s.slots[sequence] = append(s.slots[sequence], int32(s.drafts+i))
	}
	s.drafts += len(step.picks)
	s.keeps += len(step.keeps)
	s.steps = append(s.steps, step)
	s.last = step
}

// carryIn adds a row that the sequence carried, and returns its source.
func (s *segment) carryIn(state []float32) int32 {
	width := s.head.config.HiddenSize
	row := len(s.carried) / width
	s.carried = append(s.carried, bitsOf(state)...)
	return int32(-1 - row)
}

// queue queues the steps that were added since the last part; the last part, which may
// have none, brings the results.
func (s *segment) queue(ctx context.Context, last bool) error {
	part := s.steps[s.queued:]
	if err := s.prepare(part); err != nil {
		return err
	}
	err := s.w.run(s.batch.Observe != nil, func(d hip.Device) error {
		if err := s.launch(ctx, d, part); err != nil || !last {
			return err
		}
		return s.w.results.bring(d)
	})
	if len(part) > 0 {
		s.before = part[len(part)-1]
	}
	s.queued, s.carried = len(s.steps), s.carried[:0]
	s.w.words.next()
	return err
}

// prepare brings to the device what the steps of a part need, and makes room for the
// rest.
func (s *segment) prepare(part []*draftStep) error {
	w, width := s.w, s.head.config.HiddenSize
	if s.before == nil {
		part[0].takeInput()
	}
	for i, step := range part {
		step.drafts = s.room
		step.sourcesAt, step.picksAt, step.keepsAt = w.words.add(step.sources), w.words.add(step.picks), w.words.add(step.keeps)
		if err := step.encode(s.queued + i); err != nil {
			return err
		}
	}
	w.words.align()
	s.carriedAt = w.words.add(s.carried)

	vocab := s.head.drafts.matrix.Rows
	for _, step := range part {
		if err := step.makeRoom(); err != nil {
			return err
		}
		if err := w.growLogits(width, len(step.picks), vocab); err != nil {
			return err
		}
		if err := w.growTop(len(step.picks), vocab, 1); err != nil {
			return err
		}
	}
	if s.before == nil {
		if err := part[0].loadInput(); err != nil {
			return err
		}
	}
	if err := w.words.upload(w.device, w.sharer); err != nil {
		return err
	}
	for _, step := range part {
		step.place()
	}
	return nil
}

// keepsAt is where the kept rows begin in the results, in values.
func (s *segment) keepsAt() int { return (2*s.room + 3) / 4 * 4 }

// launch queues the steps of a part on d.
func (s *segment) launch(ctx context.Context, d hip.Device, part []*draftStep) error {
	before := s.before
	for _, step := range part {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.launchStep(d, step, before); err != nil {
			return err
		}
		before = step
	}
	return nil
}

func (s *segment) launchStep(d hip.Device, step, before *draftStep) error {
	if err := s.feed(d, step, before); err != nil {
		return err
	}
	// Two buffers in turn: a step reads what the one before gave while it runs.
	step.out = s.w.hidden.ptr
	if before != nil && before.out == step.out {
		step.out = s.w.otherHidden.ptr
	}
	if err := step.launch(d); err != nil {
		return err
	}
	if err := s.pick(d, step); err != nil {
		return err
	}
	return s.keep(d, step)
}

// feed gives a step its hidden states.
func (s *segment) feed(d hip.Device, step, before *draftStep) error {
	if before == nil {
		return nil
	}
	given, rows := s.given(before)
	if isAll(step.sources, rows) {
		step.states = given
		return nil
	}
	step.states = s.w.hiddenIn.wide.ptr
	width := s.head.config.HiddenSize
	return launchTakeRows(d, &takeRowsArgs{
		Out: step.states, From: given, Kept: s.w.words.at(s.carriedAt), Sources: s.w.words.at(step.sourcesAt),
		Rows: int32(len(step.sources)), FromRows: int32(rows), KeptRows: int32(len(s.carried) / width), Width: int32(width),
	})
}

// given is what a step hands on: all its rows, of an aligned chain, else those that
// tokens were drafted from.
func (s *segment) given(step *draftStep) (states hip.Ptr, rows int) {
	switch {
	case s.head.chain == ChainAligned:
		return step.out, step.rows
	case s.head.options.PostNorm:
		return s.w.finalNorm.ptr, len(step.picks)
	}
	return s.picked(step), len(step.picks)
}

// picked is where the states are that tokens are drafted from.
func (s *segment) picked(step *draftStep) hip.Ptr {
	if step.wanted != nil || isAll(step.picks, step.rows) { // wanted are the picks
		return step.out
	}
	return s.w.picked.ptr
}

// isAll tells whether rows are those from 0 to n−1.
func isAll(rows []int32, n int) bool {
	if len(rows) != n {
		return false
	}
	for i, r := range rows {
		if int(r) != i {
			return false
		}
	}
	return true
}

// pick drafts a token from each of the step's picked rows.
func (s *segment) pick(d hip.Device, step *draftStep) error {
	n := len(step.picks)
	if n == 0 {
		return nil
	}
	h, w := s.head, s.w
	states := s.picked(step)
	if states != step.out {
		err := launchTakeRows(d, &takeRowsArgs{
			Out: states, From: step.out, Sources: w.words.at(step.picksAt),
			Rows: int32(n), FromRows: int32(step.rows), Width: int32(h.config.HiddenSize),
		})
		if err != nil {
			return err
		}
	}
	unembed := &h.drafts
	if err := h.logits(d, w, unembed.matrix, states, n, step.module); err != nil {
		return err
	}
	return w.top(d, s.w.results.at(step.firstDraft), s.w.results.at(s.room+step.firstDraft), unembed.tokens, n, unembed.matrix.Rows, 1)
}

// keep makes of an aligned step's rows what the next step takes, and keeps the one
// of each sequence that the next call starts from.
func (s *segment) keep(d hip.Device, step *draftStep) error {
	h, width := s.head, s.head.config.HiddenSize
	if h.chain != ChainAligned || step.wanted != nil { // the last
		return nil
	}
	if h.options.PostNorm {
		if err := norm.RMSNorm(d, step.out, step.out, h.modules[step.module].finalNorm, step.rows, width, h.config.RMSNormEps); err != nil {
			return err
		}
	}
	if len(step.keeps) == 0 {
		return nil
	}
	return launchTakeRows(d, &takeRowsArgs{
		Out: s.w.results.at(s.keepsAt() + step.firstKeep*width), From: step.out, Sources: s.w.words.at(step.keepsAt),
		Rows: int32(len(step.keeps)), FromRows: int32(step.rows), Width: int32(width),
	})
}

// collect reads the results.
func (s *segment) collect() error {
	width := s.head.config.HiddenSize
	values, err := s.w.wait()
	if err != nil {
		return err
	}
	kept := values[s.keepsAt():]
	for _, step := range s.steps {
		for i, row := range step.picks {
			slot := step.firstDraft + i
			s.take(step.spanOf(row).sequence, values[slot], math.Float32frombits(uint32(values[s.room+slot])))
		}
		for i, row := range step.keeps {
			first := (step.firstKeep + i) * width
			s.carry[step.spanOf(row).sequence][step.layer] = slices.Clone(floatsOf(kept[first : first+width]))
		}
	}
	for i := range s.slots {
		s.slots[i] = s.slots[i][:0]
	}
	return nil
}
