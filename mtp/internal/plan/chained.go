package plan

// firstStep is step 0 of [First] and [ModOwn]: all confirmed rows. Only the last row of a
// sequence that drafts needs more than its keys and values.
func (c *Call) firstStep() *Step {
	s := &Step{}
	for i := range c.Sequences {
		q := &c.Sequences[i]
		s.add(i, q.Position, q.Tokens...)
		if c.drafting(i) {
			s.Picks = append(s.Picks, int32(s.Rows()-1))
		}
	}
	s.want(s.Picks)
	return s
}

// chained is a later step: one row for each sequence that still drafts, at the next
// position, with the token and the hidden state that the step before gave.
//
//	step 0     rows P … P+n−1    draft 0
//	step 1     row  P+n          draft 1
//	step 2     row  P+n+1        draft 2
func (c *Call) chained() *Step {
	s := &Step{}
	if c.Rule == ModOwn {
		s.Module = c.step % c.Modules
		s.Layer = s.Module
	}
	for i, row := range c.last.Picks {
		span := c.last.SpanOf(row)
		if !c.drafting(span.Sequence) {
			continue
		}
		s.Picks = append(s.Picks, int32(s.Rows()))
		s.Sources = append(s.Sources, int32(i))
		s.add(span.Sequence, span.End(), c.draft(span.Sequence, c.step-1))
	}
	return s
}
