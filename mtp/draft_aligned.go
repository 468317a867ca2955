package mtp

import (
	"context"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// aligned is ChainAligned: step s runs module s mod n, in a cache layer of its
// own, over all rows, with positions kept and tokens shifted by s:
//
//	row (position)        0     1     …   P−2    P−1      P rows committed
//	step 0 token          t₁    t₂    …   t₍P−1₎ t₍P₎
//	step 1 token          t₂    t₃    …   t₍P₎   draft 0
//	step 2 token          t₃    t₄    …   draft 0 draft 1
//
// A row takes its hidden state from the same row of the step before. The last s
// rows of step s carry drafts and are provisional: once the target has confirmed
// tokens they run again, from row P−s on, together with the new ones. For that
// step s needs the state that step s−1 returned for row P−s, which was final and
// is not run again; it is what a sequence carries.
//
// Steps beyond what is drafted still run the rows that became final, so that
// their layers stay whole.
func (d *drafting) aligned(ctx context.Context) error {
	h := d.head
	steps := h.alignedSteps()
	d.carry = make([][][]float32, len(d.batch.Sequences))
	for i := range d.carry {
		d.carry[i] = make([][]float32, steps)
	}
	var before []alignedRows // what the step before returned, on the host
	for step := range steps {
		p, err := d.alignedPass(step, before)
		if err != nil {
			return err
		}
		if p.rows == 0 {
			return nil // later steps have no rows either
		}
		hidden, err := d.step(ctx, p)
		if err != nil {
			return err
		}
		if err := d.alignedPick(p, hidden, step); err != nil {
			return err
		}
		if before, err = d.alignedKeep(p, hidden, step); err != nil {
			return err
		}
	}
	return nil
}

// alignedRows is the hidden states of a sequence's rows from position from on.
type alignedRows struct {
	from   int
	states []float32
}

// alignedPass builds step's pass and brings its hidden states to the device.
func (d *drafting) alignedPass(step int, before []alignedRows) (*pass, error) {
	h := d.head
	p := &pass{head: h, w: d.w, batch: d.batch, module: step % len(h.modules), layer: step}
	var states []float32
	for i := range d.batch.Sequences {
		rows := &d.batch.Sequences[i]
		committed := rows.Position + len(rows.Tokens)
		from, end := max(0, rows.Position-step), max(0, committed-step)
		if step < d.k && d.live[i] {
			end = committed
		}
		if from >= end {
			continue
		}
		p.add(i, from, d.shifted(i, from+step, end-from)...)
		if step > 0 {
			source := before[i]
			if source.from > from { // the row that is not run again
				states = append(states, rows.Sequence.carry[step-1]...)
			}
			skip := max(0, from-source.from) * h.config.HiddenSize
			width := (end - max(from, source.from)) * h.config.HiddenSize
			states = append(states, source.states[skip:skip+width]...)
		}
	}
	if step == 0 {
		return p, p.loadInput()
	}
	var err error
	if p.rows > 0 {
		p.states, err = d.w.stage(&Hidden{Float32: states}, &d.w.hiddenIn, len(states))
	}
	return p, err
}

// shifted returns n tokens that follow the positions from first on: confirmed
// ones, then drafts.
func (d *drafting) shifted(sequence, first, n int) []int32 {
	rows := &d.batch.Sequences[sequence]
	known := append(slices.Clone(rows.Tokens), d.ids[sequence]...)
	return known[first-rows.Position:][:n]
}

// alignedPick drafts from the last committed row of each sequence that still
// drafts at this step.
func (d *drafting) alignedPick(p *pass, hidden hip.Ptr, step int) error {
	if step >= d.k {
		return nil
	}
	drafting := &pass{module: p.module}
	var last []int
	end := 0
	for _, s := range p.spans {
		end += s.rows
		if d.live[s.sequence] {
			drafting.spans = append(drafting.spans, s)
			last = append(last, end-1)
		}
	}
	if len(last) == 0 {
		return nil
	}
	states, err := d.rowsOf(hidden, last)
	if err != nil {
		return err
	}
	return d.pick(states, drafting)
}

// alignedKeep reads the hidden states back for the next step, and keeps the one
// of each sequence that the next call will start from.
func (d *drafting) alignedKeep(p *pass, hidden hip.Ptr, step int) ([]alignedRows, error) {
	n := d.head.config.HiddenSize
	if d.head.options.PostNorm {
		if err := d.postNorm(hidden, p.rows, p.module); err != nil {
			return nil, err
		}
	}
	all := make([]float32, p.rows*n)
	if err := hip.ReadOf(d.head.device, all, hidden); err != nil {
		return nil, err
	}
	out := make([]alignedRows, len(d.batch.Sequences))
	for _, s := range p.spans {
		states := all[:s.rows*n]
		all = all[s.rows*n:]
		out[s.sequence] = alignedRows{s.from, states}
		rows := &d.batch.Sequences[s.sequence]
		if final := rows.Position + len(rows.Tokens) - 1 - step; final >= s.from {
			d.carry[s.sequence][step] = slices.Clone(states[(final-s.from)*n : (final-s.from+1)*n])
		}
	}
	return out, nil
}
