package mtp

// Chain is a rule by which a chain of drafts uses the modules of a head. The zero Chain is
// ChainFirst with one module and ChainAligned with several. With one module ChainFirst and
// ChainModOwn draft the same.
//
// A checkpoint does not say which rule it was trained for: examples/draft -conventions finds
// out from traces of its target, and examples/draft/README.md lists symptoms of a wrong one.
//
// Every rule can do all of this. The rule says what a sequence must bring along:
//
//	                          chain   chain_mod_own   chain_aligned   chain_target
//	Sequence                  yes     yes             yes             yes
//	BlockTable                yes     yes             again           again
//	prompt in pieces          yes     yes             yes             yes
//	Drafts of each sequence   yes     yes             yes             yes
//	Drafts 0                  yes     yes             yes             yes
//	MinProbability            yes     yes             yes             yes
//	Sampling                  yes     yes             yes             yes
//	Allowed                   yes     yes             yes             yes
//	DraftVocabulary           yes     yes             yes             yes
//	Fork                      yes     yes             yes             yes
//	Truncate                  yes     yes             again           again
//	Fork and Truncate         yes     yes             again           again
//	Draft after Forward       yes     yes             again           again
//	WriteTo and ReadSequence  yes     yes             yes             yes
//	closed and computed anew  yes     yes             yes             yes
//	Embeds                    yes     yes             yes             yes
//
// again: the caller gives the last rows once more, one fewer than the chain has steps, and
// these run at all steps from the target's hidden states. [Sequence.Resume] says from which
// row on; a BlockTable's rows always begin with them. An engine that begins at Resume every
// time need not know the rule:
//
//	from := seq.Resume() // mostly Len
//	rows := mtp.Rows{Sequence: seq, Position: from, Tokens: text[from+1:], Drafts: 4}
//	states := target[from:] // hidden states of the same rows
type Chain string

const (
	// ChainFirst runs module 0 at every step.
	ChainFirst Chain = "chain"
	// ChainModOwn runs module s mod n at step s. Each module sees only its own rows: module
	// 0 the confirmed ones, and every module those that it has run in the same chain, which
	// leaves holes between them.
	ChainModOwn Chain = "chain_mod_own"
	// ChainAligned runs module s mod n at step s over all rows, with positions kept and
	// tokens shifted by s, as the modules were trained. Rows that a step ran with drafted
	// tokens run again once the target has confirmed others; for that a Sequence carries one
	// hidden state per step from Draft to Draft.
	//
	// Where nothing is carried, which is after Truncate, after a Forward, and with a
	// BlockTable, the caller gives rows once more that it has given before: the last ones,
	// one fewer than the chain has steps (Options.MaxDraft, or num_mtp_modules if that is
	// 0). These run again at every step. [Sequence.Resume] says from which row on.
	ChainAligned Chain = "chain_aligned"
	// ChainTarget is ChainAligned with one difference: every step starts from the target's
	// own hidden states, Batch.Hidden of the same row, so that no step reads what another
	// returned, only its draft. Options.PostNorm does not matter. What the Sequence carries
	// are the target's hidden states of its last rows.
	ChainTarget Chain = "chain_target"
)

// shifts reports whether every step runs all rows, with tokens shifted by the step, in a
// layer of its own.
func (c Chain) shifts() bool { return c == ChainAligned || c == ChainTarget }

// resolve returns the rule for a head of n modules.
func (c Chain) resolve(modules int) (Chain, error) {
	switch c {
	case "":
		if modules > 1 {
			return ChainAligned, nil
		}
		return ChainFirst, nil
	case ChainFirst, ChainModOwn, ChainAligned, ChainTarget:
		return c, nil
	}
	return "", refuse("Options.Chain", string(c), "chain, chain_mod_own, chain_aligned or chain_target", nil)
}
