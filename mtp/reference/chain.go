package reference

import (
	"math"

	"github.com/nlpodyssey/spago/mat"
)

// Rule says which module drafts at which step, what rows each has seen, and
// what hidden state a step hands to the next. With n modules:
type Rule string

const (
	// RuleChain drafts every step with module 0, fed with its own hidden states.
	RuleChain Rule = "chain"
	// RulePostNorm is RuleChain with the hidden state after the final norm handed on.
	RulePostNorm Rule = "chain_postnorm"
	// RuleModOwn drafts step s with module s mod n. The prompt goes to module 0
	// only, each further row to the module that drafts: the others have no keys there.
	RuleModOwn Rule = "chain_mod_own"
	// RuleModPrefilled is RuleModOwn with the prompt given to every module.
	RuleModPrefilled Rule = "chain_mod_prefilled"
	// RuleModEveryRow is RuleModOwn with every row given to every module.
	RuleModEveryRow Rule = "chain_mod_every_row"
	// RuleAligned runs module s mod n at step s over all prompt rows, in an empty
	// cache: positions stay, tokens shift by one more each step, and row i takes
	// the hidden state of row i of the step before.
	RuleAligned Rule = "chain_aligned"
)

// Drafts is a greedy chain of k drafts.
type Drafts struct {
	// IDs are the draft tokens; the lower id on a tie of logits.
	IDs []int
	// Modules are the modules they were read from.
	Modules []int
	// Hidden [k, H] is the hidden state, before the final norm, that each was read from; Logits [k, V] its logits.
	Hidden, Logits mat.Matrix
	// Margin is the highest logit minus the second highest, per draft; +Inf for a vocabulary of one.
	Margin []float64
}

// Chain drafts k tokens after the prompt tokens t_0 … t_T, of which t_T was just
// sampled. hidden [T, H] holds the target's hidden states at positions
// 0 … T−1, after its final norm. Invalid arguments match ErrInput.
func (h *Head) Chain(tokens []int, hidden mat.Matrix, k int, rule Rule) (*Drafts, error) {
	if err := h.checkHidden(hidden); err != nil {
		return nil, err
	}
	if rows := hidden.Shape()[0]; len(tokens) != rows+1 {
		return nil, inputError("%d tokens for %d hidden states, want one more", len(tokens), rows)
	}
	if err := h.checkTokens(tokens); err != nil {
		return nil, err
	}
	if k < 1 {
		return nil, inputError("a chain of %d drafts", k)
	}
	prompt := sequence{hidden: inFloat64(hidden)}
	for i, token := range tokens[1:] {
		prompt.tokens = append(prompt.tokens, token)
		prompt.positions = append(prompt.positions, i)
	}
	switch rule {
	case RuleChain, RulePostNorm, RuleModOwn, RuleModPrefilled, RuleModEveryRow:
		return h.chainRows(prompt, k, rule)
	case RuleAligned:
		return h.chainAligned(prompt, k)
	}
	return nil, inputError("rule %q", rule)
}

// sequence is the rows a module has seen.
type sequence struct {
	tokens, positions []int
	hidden            mat.Matrix // nil when there are no rows
}

// with returns s with one more row.
func (s sequence) with(token, position int, hidden mat.Matrix) sequence {
	if s.hidden != nil {
		hidden = stack(s.hidden, hidden)
	}
	return sequence{
		tokens:    append(append([]int{}, s.tokens...), token),
		positions: append(append([]int{}, s.positions...), position),
		hidden:    hidden,
	}
}

// chainRows runs the rules in which every step after the first appends one row.
func (h *Head) chainRows(prompt sequence, k int, rule Rule) (*Drafts, error) {
	seen := make([]sequence, len(h.modules))
	for i := range seen {
		if i == 0 || rule == RuleModPrefilled || rule == RuleModEveryRow {
			seen[i] = prompt
		}
	}
	drafts := &Drafts{}
	position := len(prompt.tokens) - 1
	for step := range k {
		module := 0
		if rule != RuleChain && rule != RulePostNorm {
			module = step % len(h.modules)
		}
		if step > 0 {
			position++
			token, handed := drafts.last(h, rule)
			for i := range seen {
				if i == module || rule == RuleModEveryRow {
					seen[i] = seen[i].with(token, position, handed)
				}
			}
		}
		s := seen[module]
		stages, err := h.ForwardRows(module, s.tokens, s.positions, s.hidden, []int{len(s.tokens) - 1})
		if err != nil {
			return nil, err
		}
		drafts.add(module, stages)
	}
	return drafts, nil
}

// chainAligned runs RuleAligned.
func (h *Head) chainAligned(rows sequence, k int) (*Drafts, error) {
	drafts := &Drafts{}
	for step := range k {
		if step > 0 {
			rows.tokens = append(append([]int{}, rows.tokens[1:]...), drafts.IDs[step-1])
		}
		module := step % len(h.modules)
		stages, err := h.Forward(module, rows.tokens, rows.positions, rows.hidden)
		if err != nil {
			return nil, err
		}
		drafts.add(module, stages)
		rows.hidden = stages.Hidden
	}
	return drafts, nil
}

// add appends the draft that the last row of stages gives.
func (d *Drafts) add(module int, stages *Stages) {
	last := []int{len(stages.Rows) - 1}
	hidden, logits := gather(stages.Hidden, last), gather(stages.Logits, last)
	if d.Hidden != nil {
		d.Hidden, d.Logits = stack(d.Hidden, hidden), stack(d.Logits, logits)
	} else {
		d.Hidden, d.Logits = hidden, logits
	}
	id, margin := argmax(row(logits, 0))
	d.IDs = append(d.IDs, id)
	d.Margin = append(d.Margin, margin)
	d.Modules = append(d.Modules, module)
}

// last returns the last draft and the hidden state that the rule hands on from it.
func (d *Drafts) last(h *Head, rule Rule) (token int, hidden mat.Matrix) {
	n := len(d.IDs) - 1
	hidden = gather(d.Hidden, []int{n})
	if rule == RulePostNorm {
		hidden = h.finalNorm(d.Modules[n], hidden)
	}
	return d.IDs[n], hidden
}

// argmax returns the index of the highest logit, the lower on a tie, and its lead over the second highest.
func argmax(logits []float64) (id int, margin float64) {
	margin = math.Inf(1)
	for i, x := range logits[1:] {
		if x > logits[id] {
			margin = x - logits[id]
			id = i + 1
		} else {
			margin = min(margin, logits[id]-x)
		}
	}
	return id, margin
}
