package mtp

// planAligned is ChainAligned: step s runs module s mod n, in a cache layer of its
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
// their layers stay whole. The last step hands nothing on: it needs hidden states for
// what is drafted alone.
func (d *drafting) planAligned(s *segment, step int) *draftStep {
	h, last := d.head, step == d.head.alignedSteps()-1
	next := &draftStep{pass: &pass{head: h, w: d.w, batch: d.batch, module: step % len(h.modules), layer: step}}
	for i := range d.batch.Sequences {
		rows := &d.batch.Sequences[i]
		committed := rows.Position + len(rows.Tokens)
		from, end := max(0, rows.Position-step), max(0, committed-step)
		drafts := step < d.k && d.live[i]
		if drafts {
			end = committed
		}
		if from >= end {
			continue
		}
		first := next.rows
		next.add(i, from, d.shifted(i, from+step, end-from)...)
		if drafts {
			next.picks = append(next.picks, int32(next.rows-1))
		}
		if final := committed - 1 - step; final >= from && !last {
			next.keeps = append(next.keeps, int32(first+final-from))
		}
		if step > 0 {
			next.sources = append(next.sources, s.alignedSources(d.last, i, from, end, rows.Sequence.carry)...)
		}
	}
	if last && (len(next.picks) == 0 || len(next.picks) == len(next.spans)) {
		next.want(next.picks)
	}
	return next
}

// alignedSources returns where the hidden states of a sequence's rows from … end−1
// come from: the same rows of the step before, or what was carried.
func (s *segment) alignedSources(before *draftStep, sequence, from, end int, carry [][]float32) (sources []int32) {
	first := 0
	for _, span := range before.spans {
		if span.sequence != sequence {
			first += span.rows
			continue
		}
		if span.from > from { // the row that is not run again
			sources = append(sources, s.carryIn(carry[before.layer]))
		}
		for p := max(from, span.from); p < end; p++ {
			sources = append(sources, int32(first+p-span.from))
		}
	}
	return sources
}

// shifted returns n tokens that follow the positions from first on: confirmed
// ones, then drafts.
func (d *drafting) shifted(sequence, first, n int) []int32 {
	rows := &d.batch.Sequences[sequence]
	tokens := make([]int32, n)
	for i := range tokens {
		if at := first - rows.Position + i; at < len(rows.Tokens) {
			tokens[i] = rows.Tokens[at]
		} else {
			tokens[i] = d.token(sequence, at-len(rows.Tokens))
		}
	}
	return tokens
}
