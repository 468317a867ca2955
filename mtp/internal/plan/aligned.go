package plan

// aligned is a step of [Aligned]: step s runs module s mod n over all rows, with
// positions kept and tokens shifted by s:
//
//	row (position)        0     1     …   P−2    P−1      P confirmed rows
//	step 0 token          t₁    t₂    …   t₍P−1₎ t₍P₎
//	step 1 token          t₂    t₃    …   t₍P₎   draft 0
//	step 2 token          t₃    t₄    …   draft 0 draft 1
//
// A row takes its hidden state from the same row of the step before. The last s rows of
// step s carry drafts. Once the target has confirmed their tokens they run again, from
// row P−s on, together with the new rows. Step s then needs the state that step s−1 gave
// row P−s, which does not run again: the sequence carries it.
//
// Steps past the drafts still run the rows that became final, so that their layers stay
// whole. The last step hands nothing on and needs hidden states only for what is drafted.
func (c *Call) aligned() *Step {
	if c.step == c.Steps {
		return nil
	}
	s := &Step{Module: c.step % c.Modules, Layer: c.step}
	last := c.step == c.Steps-1
	for i := range c.Sequences {
		q := &c.Sequences[i]
		from, end := max(0, q.Position-c.step), max(0, q.end()-c.step)
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
		if final := q.end() - 1 - c.step; final >= from && !last {
			s.Keeps = append(s.Keeps, int32(first+final-from))
		}
		if c.step > 0 {
			c.source(s, i, from, end)
		}
	}
	if last {
		s.want(s.Picks)
	}
	return s
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
