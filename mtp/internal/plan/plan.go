package plan

// Rule says how steps follow one another.
type Rule int

const (
	// First runs module 0 at every step, in one layer.
	First Rule = iota
	// ModOwn runs module s mod n at step s; each sees only its own rows.
	ModOwn
	// Aligned runs module s mod n at step s over all rows, in a layer of the step's own, with
	// the hidden states that the step before gave.
	Aligned
	// Target is Aligned with the batch's own hidden states, the target's, at every step.
	Target
)

// shifts reports whether every step runs all rows, with tokens shifted by the step.
func (r Rule) shifts() bool { return r == Aligned || r == Target }

// Sequence is what a rule knows of a sequence.
type Sequence struct {
	Position int     // of the first confirmed row
	Tokens   []int32 // of the confirmed rows, one each; a negative one stands for no draft of the call
	Drafts   int     // the most tokens to draft
	Again    bool    // nothing is carried: a rule that shifts runs all steps from Position on
	Forgets  bool    // no row is kept for the next call
}

// end is the position after the confirmed rows.
func (s *Sequence) end() int { return s.Position + len(s.Tokens) }

// Span is rows of Sequences[Sequence] at positions From … From+Rows−1.
type Span struct {
	Sequence, From, Rows int
}

// End is the position after the last row.
func (s Span) End() int { return s.From + s.Rows }

// Carried is a hidden state that a sequence carries from one call to the next: that of the
// row Back rows before its last. In [Aligned] step Back gave it, in [Target] the target.
type Carried struct {
	Sequence, Back int
}

// Step is one run of a module. Rows are numbered through all spans; lists of rows ascend.
type Step struct {
	Module, Layer int
	Spans         []Span
	Tokens        []int32 // of the rows, as Sequences have them; −1−n stands for draft n of the call

	Sources []int32   // of the rows: a row that was handed on, or −1−c for Carried[c]; nil at step 0
	Carried []Carried // that Sources and Shared name
	Shared  []int32   // what step 0 of Target hands on, to all others: rows of the batch, or −1−c for Carried[c]

	Wanted []int32   // rows that hidden states are made for; of the others only keys and values. nil: all
	Picks  []int32   // rows that a token is drafted from: drafts FirstDraft, FirstDraft+1 …
	Keeps  []int32   // rows, of those handed on, that sequences carry
	Kept   []Carried // as what; one for each of Keeps

	FirstDraft, FirstKeep int
}

// Rows is the number of rows.
func (s *Step) Rows() int { return len(s.Tokens) }

// OutRows is the number of rows that hidden states are made for.
func (s *Step) OutRows() int {
	if s.Wanted != nil {
		return len(s.Wanted)
	}
	return s.Rows()
}

// SpanOf returns the span of a row.
func (s *Step) SpanOf(row int32) Span {
	end := 0
	for _, span := range s.Spans {
		if end += span.Rows; int(row) < end {
			return span
		}
	}
	return Span{Sequence: -1}
}

// add appends a span.
func (s *Step) add(sequence, from int, tokens ...int32) {
	s.Spans = append(s.Spans, Span{sequence, from, len(tokens)})
	s.Tokens = append(s.Tokens, tokens...)
}

// keep keeps a row of those that the step hands on.
func (s *Step) keep(row int, as Carried) {
	s.Keeps, s.Kept = append(s.Keeps, int32(row)), append(s.Kept, as)
}

// want makes hidden states for these rows alone, unless they are all.
func (s *Step) want(rows []int32) {
	if len(rows) < s.Rows() {
		s.Wanted = append([]int32{}, rows...) // not nil
	}
}

// Call is the plan of one call, made step by step: a sequence may end between two.
type Call struct {
	Rule      Rule
	Modules   int
	Steps     int // of a rule that shifts: those that keep layers, drafted or not
	Sequences []Sequence

	step         int
	last         *Step
	chains       []chain // by sequence
	shared       []int   // by sequence: its first row of Shared
	count, keeps int
}

// chain is what a sequence has drafted.
type chain struct {
	numbers []int32 // of its drafts
	ended   bool
}

// Next returns the next step, or nil after the last.
func (c *Call) Next() *Step {
	if c.chains == nil {
		c.chains = make([]chain, len(c.Sequences))
	}
	var s *Step
	switch {
	case c.Rule.shifts():
		s = c.shifting()
	case c.step == 0:
		s = c.firstStep()
	default:
		s = c.chained()
	}
	c.step++
	if s == nil || s.Rows() == 0 {
		return nil
	}
	s.FirstDraft, s.FirstKeep = c.count, c.keeps
	for i, row := range s.Picks {
		sequence := s.SpanOf(row).Sequence
		of := &c.chains[sequence]
		if of.numbers == nil {
			of.numbers = make([]int32, 0, c.Sequences[sequence].Drafts)
		}
		of.numbers = append(of.numbers, int32(c.count+i))
	}
	c.count, c.keeps, c.last = c.count+len(s.Picks), c.keeps+len(s.Keeps), s
	return s
}

// End ends the drafting of a sequence after the tokens it has. Its confirmed rows still
// run, where the rule has them run at every step.
func (c *Call) End(sequence int) { c.chains[sequence].ended = true }

// Ended reports whether End was called for a sequence.
func (c *Call) Ended(sequence int) bool { return c.chains[sequence].ended }

// MostDrafts is the drafts that the call can come to.
func (c *Call) MostDrafts() int {
	n := 0
	for i := range c.Sequences {
		n += c.Sequences[i].Drafts
	}
	return n
}

// MostRows bounds the rows of a step.
func (c *Call) MostRows() int {
	n := 0
	for i := range c.Sequences {
		s := &c.Sequences[i]
		n += len(s.Tokens)
		if c.Rule.shifts() {
			n += s.Position - s.before(c.Steps-1)
		}
	}
	return n
}

// MostKeeps bounds the rows that are kept.
func (c *Call) MostKeeps() int {
	if !c.Rule.shifts() {
		return 0
	}
	return len(c.Sequences) * (c.Steps - 1)
}

// drafting reports whether a sequence drafts a token at the present step.
func (c *Call) drafting(sequence int) bool {
	return c.step < c.Sequences[sequence].Drafts && !c.chains[sequence].ended
}

// draft is the token of draft n of a sequence.
func (c *Call) draft(sequence, n int) int32 { return -1 - c.chains[sequence].numbers[n] }

// All returns the step of one module over all confirmed rows.
func All(module int, sequences []Sequence) *Step {
	s := &Step{Module: module, Layer: module}
	for i := range sequences {
		s.add(i, sequences[i].Position, sequences[i].Tokens...)
	}
	return s
}

// WantedSpans returns the spans whose last row is wanted; of the others no row is.
func (s *Step) WantedSpans() []int {
	var spans []int
	end := int32(0)
	for i, span := range s.Spans {
		end += int32(span.Rows)
		if len(spans) < len(s.Wanted) && s.Wanted[len(spans)] == end-1 {
			spans = append(spans, i)
		}
	}
	return spans
}
