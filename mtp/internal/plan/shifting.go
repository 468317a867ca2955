package plan

// shifting is a step of [Aligned] or [Target]: step s runs module s mod n over all rows,
// with positions kept and tokens shifted by s:
//
//	row (position)        0     1     …   P−2    P−1      P confirmed rows
//	step 0 token          t₁    t₂    …   t₍P−1₎ t₍P₎
//	step 1 token          t₂    t₃    …   t₍P₎   draft 0
//	step 2 token          t₃    t₄    …   draft 0 draft 1
//
// In Aligned a row takes its hidden state from the same row of the step before, in Target
// from the batch. The last s rows of step s carry drafts. Once the target has confirmed
// their tokens they run again, from row P−s on, together with the new rows. For that the
// sequence carries hidden states: in Aligned, step s needs the one that step s−1 gave row
// P−s, which does not run again; in Target, the batch's own of rows P−s … P−1.
//
// Steps past the drafts still run the rows that became final, so that their layers stay
// whole. If nothing is carried, the confirmed rows begin with those that would be missing,
// Steps−1 of them, and all of them run at every step.
//
// The last step hands nothing on and needs hidden states only for what is drafted;
// in Target that is so for every step.
func (c *Call) shifting() *Step {
	if c.step == c.Steps {
		return nil
	}
	s := &Step{Module: c.step % c.Modules, Layer: c.step}
	if c.step == 0 && c.Rule == Target {
		c.share(s)
	}
	for i := range c.Sequences {
		q := &c.Sequences[i]
		from, end := q.before(c.step), max(0, q.end()-c.step)
		if c.drafting(i) {
			end = q.end()
		}
		if from >= end {
			continue
		}
		first := s.Rows()
		s.add(i, from, c.shifted(i, from+c.step, end-from)...)
		if c.drafting(i) {
			s.Picks = append(s.Picks, int32(s.Rows()-1))
		}
		if final := q.end() - 1 - c.step; c.Rule == Aligned && !q.Forgets && final >= from && c.step < c.Steps-1 {
			s.keep(first+final-from, Carried{i, c.step})
		}
		switch {
		case c.step == 0:
		case c.Rule == Target:
			for p := from; p < end; p++ {
				s.Sources = append(s.Sources, int32(c.shared[i]+p-q.before(c.Steps-1)))
			}
		default:
			c.source(s, i, from, end)
		}
	}
	if c.Rule == Target || c.step == c.Steps-1 {
		s.want(s.Picks)
	}
	return s
}

// share hands on the rows that any step of [Target] starts from, and keeps the last.
func (c *Call) share(s *Step) {
	if c.Steps == 1 {
		return
	}
	row := 0 // of the batch
	for i := range c.Sequences {
		q := &c.Sequences[i]
		first := q.before(c.Steps - 1)
		c.shared = append(c.shared, len(s.Shared))
		for p := first; p < q.Position; p++ {
			s.Carried = append(s.Carried, Carried{i, q.Position - 1 - p})
			s.Shared = append(s.Shared, int32(-len(s.Carried)))
		}
		for range q.Tokens {
			s.Shared = append(s.Shared, int32(row))
			row++
		}
		if q.Forgets {
			continue
		}
		for back := min(c.Steps-1, q.end()-first) - 1; back >= 0; back-- {
			s.keep(len(s.Shared)-1-back, Carried{i, back})
		}
	}
}

// before is the first position that a step runs.
func (s *Sequence) before(step int) int {
	if s.Again {
		return s.Position
	}
	return max(0, s.Position-step)
}

// source appends where the hidden states of a sequence's rows from … end−1 come from.
func (c *Call) source(s *Step, sequence, from, end int) {
	first := 0
	for _, span := range c.last.Spans {
		if span.Sequence != sequence {
			first += span.Rows
			continue
		}
		if span.From > from { // the row that does not run again
			s.Carried = append(s.Carried, Carried{sequence, c.last.Layer})
			s.Sources = append(s.Sources, int32(-len(s.Carried)))
		}
		for p := max(from, span.From); p < end; p++ {
			s.Sources = append(s.Sources, int32(first+p-span.From))
		}
	}
}

// shifted returns n tokens from the one after position first on: confirmed ones, then
// drafts.
func (c *Call) shifted(sequence, first, n int) []int32 {
	q := &c.Sequences[sequence]
	tokens := make([]int32, n)
	for i := range tokens {
		if at := first - q.Position + i; at < len(q.Tokens) {
			tokens[i] = q.Tokens[at]
		} else {
			tokens[i] = c.draft(sequence, at-len(q.Tokens))
		}
	}
	return tokens
}
