package mtp

// planChained is ChainFirst and ChainModOwn: step 0 runs the batch, of which only the last
// row of each sequence is needed beyond its keys and values, each later step
// one row for each sequence that still drafts, at the next position, with the token
// and the hidden state that the step before gave.
func (d *drafting) planChained(s *segment, step int) *draftStep {
	h := d.head
	if step == 0 {
		p := h.newPass(d.w, d.batch, 0)
		if d.k == 0 {
			p.want(nil)
			return &draftStep{pass: p}
		}
		last := p.lastRows()
		p.want(last)
		return &draftStep{pass: p, picks: last}
	}
	module := 0
	if h.chain == ChainModOwn {
		module = step % len(h.modules)
	}
	next := &draftStep{pass: &pass{head: h, w: d.w, batch: d.batch, module: module, layer: module}}
	before := d.last
	for i, row := range before.picks {
		span := before.spanOf(row)
		if !d.live[span.sequence] {
			continue
		}
		next.sources = append(next.sources, int32(i))
		next.add(span.sequence, span.end(), d.token(span.sequence, step-1))
	}
	next.picks = next.lastRows()
	return next
}
