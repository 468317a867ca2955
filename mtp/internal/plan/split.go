package plan

// Split returns the step in pieces of at most most rows each, to run one after another:
// whatever a row sees lies before it. The pieces give their hidden states end to end. They
// have the step's rows, and which are wanted; Sources, Picks and Keeps are of the whole
// step. A step that needs no split is returned as its only piece.
func (s *Step) Split(most int) []*Step {
	if s.Rows() <= most {
		return []*Step{s}
	}
	var pieces []*Step
	var p *Step
	first, wanted := 0, 0
	for _, span := range s.Spans {
		for from := span.From; from < span.End(); {
			if p == nil || p.Rows() == most {
				p = &Step{Module: s.Module, Layer: s.Layer}
				pieces = append(pieces, p)
			}
			n := min(span.End()-from, most-p.Rows())
			if s.Wanted != nil {
				if p.Wanted == nil {
					p.Wanted = []int32{}
				}
				for ; wanted < len(s.Wanted) && int(s.Wanted[wanted]) < first+n; wanted++ {
					p.Wanted = append(p.Wanted, int32(p.Rows()-first)+s.Wanted[wanted])
				}
			}
			p.add(span.Sequence, from, s.Tokens[first:first+n]...)
			first, from = first+n, from+n
		}
	}
	for _, p := range pieces {
		if len(p.Wanted) == p.Rows() {
			p.Wanted = nil // all
		}
	}
	return pieces
}
