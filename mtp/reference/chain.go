package reference

import (
	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// The rules that package mtp does not have, because no engine drafts by them.
// They are ways to misread the others.
const (
	// chainPostNorm is chain with the hidden state after the final norm handed on,
	// which is the option PostNorm of mtp.
	chainPostNorm mtp.Chain = "chain_postnorm"
	// chainModPrefilled is chain_mod_own with the prompt given to every module.
	chainModPrefilled mtp.Chain = "chain_mod_prefilled"
	// chainModEveryRow is chain_mod_own with every row given to every module.
	chainModEveryRow mtp.Chain = "chain_mod_every_row"
)

// Drafts is a greedy chain of k drafts.
type Drafts struct {
	// IDs are the draft tokens; the lower id if logits are equal.
	IDs []int
	// Hidden [k, H] holds the hidden state, before the final norm, from which each was
	// drafted; Logits [k, V] holds its logits.
	Hidden, Logits mat.Matrix

	modules []int // that gave them
}

// Chain drafts k tokens after the prompt tokens t_0 … t_T, of which t_T was just
// sampled. hidden [T, H] holds the target's hidden states at positions
// 0 … T−1, after its final norm. The rule says which of n modules drafts at which
// step, what rows each has seen, and what hidden state a step hands to the next:
//
//	chain                every step by module 0, fed with its own hidden states
//	chain_postnorm       the same, but the hidden state after the final norm is handed on
//	chain_mod_own        step s by module s mod n; the prompt goes to module 0 only, each
//	                     further row to the module that drafts: the others have no keys there
//	chain_mod_prefilled  the same with the prompt given to every module
//	chain_mod_every_row  the same with every row given to every module
//	chain_aligned        module s mod n at step s over all prompt rows, in an empty cache:
//	                     positions stay, tokens shift by one more each step, and row i takes
//	                     the hidden state of row i of the step before
//	chain_target         the same, but row i takes the target's hidden state i at every step
//
// A bad argument is a *hip.InputError.
func (h *Head) Chain(tokens []int, hidden mat.Matrix, k int, rule mtp.Chain) (*Drafts, error) {
	if err := h.checkChain(tokens, hidden, k); err != nil {
		return nil, err
	}
	prompt := sequence{hidden: inFloat64(hidden)}
	for i, token := range tokens[1:] {
		prompt.tokens = append(prompt.tokens, token)
		prompt.positions = append(prompt.positions, i)
	}
	switch rule {
	case mtp.ChainFirst, chainPostNorm, mtp.ChainModOwn, chainModPrefilled, chainModEveryRow:
		return h.chainRows(prompt, k, rule)
	case mtp.ChainAligned, mtp.ChainTarget:
		return h.chainShifted(prompt, k, rule)
	}
	return nil, &hip.InputError{Op: opChain, Field: "rule", Got: rule, Want: "one that is documented"}
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
func (h *Head) chainRows(prompt sequence, k int, rule mtp.Chain) (*Drafts, error) {
	seen := make([]sequence, len(h.modules))
	for i := range seen {
		if i == 0 || rule == chainModPrefilled || rule == chainModEveryRow {
			seen[i] = prompt
		}
	}
	drafts := &Drafts{}
	position := len(prompt.tokens) - 1
	for step := range k {
		module := 0
		if rule != mtp.ChainFirst && rule != chainPostNorm {
			module = step % len(h.modules)
		}
		if step > 0 {
			position++
			token, handed := drafts.last(h, rule)
			for i := range seen {
				if i == module || rule == chainModEveryRow {
					seen[i] = seen[i].with(token, position, handed)
				}
			}
		}
		s := seen[module]
		stages, err := h.Forward(module, s.tokens, s.positions, s.hidden, len(s.tokens)-1)
		if err != nil {
			return nil, err
		}
		drafts.add(module, stages)
	}
	return drafts, nil
}

// chainShifted runs chain_aligned and chain_target.
func (h *Head) chainShifted(rows sequence, k int, rule mtp.Chain) (*Drafts, error) {
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
		if rule == mtp.ChainAligned {
			rows.hidden = stages["hidden"]
		}
	}
	return drafts, nil
}

// add appends the draft that the last row of stages gives.
func (d *Drafts) add(module int, stages stages) {
	last := []int{stages["logits"].Shape()[0] - 1}
	hidden, logits := gather(stages["hidden"], last), gather(stages["logits"], last)
	if d.Hidden != nil {
		d.Hidden, d.Logits = stack(d.Hidden, hidden), stack(d.Logits, logits)
	} else {
		d.Hidden, d.Logits = hidden, logits
	}
	d.IDs = append(d.IDs, argmax(row(logits, 0)))
	d.modules = append(d.modules, module)
}

// last returns the last draft and the hidden state that the rule hands on from it.
func (d *Drafts) last(h *Head, rule mtp.Chain) (token int, hidden mat.Matrix) {
	n := len(d.IDs) - 1
	hidden = gather(d.Hidden, []int{n})
	if rule == chainPostNorm {
		hidden = rms(hidden, h.modules[d.modules[n]].finalLayernorm, h.Config.Attention.Eps)
	}
	return d.IDs[n], hidden
}

// argmax returns the index of the highest logit, the lower on a tie.
func argmax(logits []float64) (id int) {
	for i, x := range logits {
		if x > logits[id] {
			id = i
		}
	}
	return id
}
