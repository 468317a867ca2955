package mtp

import (
	"log/slog"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// Options of [Load] and [Inspect]. The zero value is right for most callers.
type Options struct {
	// Device runs the head. nil: a new [hip.NewHost] that the head closes. A
	// device that is given stays the caller's to close, after the head.
	Device hip.Device

	// Progress is called while weights are read, from the loading goroutine.
	Progress weights.Progress

	// Populate reads a memory-mapped checkpoint ahead during Load. Without it
	// Load returns at once and the first drafts wait for the disk.
	Populate bool

	// Logger gets a record per load, with what was found, and one for an lm_head
	// made for drafting. nil: no logging.
	Logger *slog.Logger

	// CacheFormat is how keys and values are stored: [attention.CacheBF16], which is
	// the zero value, or [attention.CacheF32].
	CacheFormat attention.CacheFormat

	// Chain is the rule by which Draft goes from step to step.
	Chain Chain

	// PostNorm makes Draft feed steps after the first with rms(hidden;
	// final_layernorm), in place of the hidden state before that norm. Who goes from
	// step to step by [Head.Forward] applies [Head.FinalNorm] between them.
	PostNorm bool

	// MaxDraft, 0 to 64, is the longest chain of an aligned head: its caches hold
	// one layer for each step. 0: num_mtp_modules. Chains of other rules may have 64
	// steps whatever it is.
	MaxDraft int

	// DraftLMHead makes Draft read a copy of lm_head, requantised at load:
	//
	//	weights.INT8    53 % of bfloat16's bytes, within 0.4 % of the largest of 32 weights
	//	weights.MXFP8   52 %, rounded to 4 significant bits: more drafts change
	//
	// 0 reads it as stored, and so is one that is in the format already. Logits
	// keep to lm_head itself: who verifies by them stays exact. See
	// [weights.Matrix.Requantize]. The copy is on top of what a head needs.
	DraftLMHead weights.Format

	// DraftVocabulary holds the tokens that Draft picks from, in any order; only
	// their rows of lm_head are read, where they lie. Probabilities, also for
	// Rows.MinProbability, are then a softmax over these tokens alone. nil: all
	// tokens. [ReadVocabulary] and [MostFrequent] make such lists. Logits are of
	// all tokens.
	DraftVocabulary []int32

	// Embed and LMHead are the target's own embed_tokens and lm_head,
	// vocab_size × hidden_size, in the memory of Device. What is given is not
	// read from the checkpoint, which need not hold it, and stays the caller's.
	Embed, LMHead *weights.Matrix

	// Parallel loads one rank's share of the parameters, to look at or to share by
	// [Head.Matrix]. Running a head that is not whole is not possible yet: whatever runs
	// it, NewCache among that, returns an [InputError] that wraps
	// [errors.ErrUnsupported].
	Parallel weights.Parallel
}

// Chain is a rule by which a chain of drafts uses the modules of a head. With one
// module ChainFirst and ChainModOwn are the same.
type Chain string

const (
	// ChainDefault is ChainFirst with one module, ChainAligned with several.
	ChainDefault Chain = ""
	// ChainFirst runs module 0 at every step.
	ChainFirst Chain = "chain"
	// ChainModOwn runs module s mod n at step s; each sees only its own rows,
	// which leaves holes in the caches. It needs Sequences.
	ChainModOwn Chain = "chain_mod_own"
	// ChainAligned runs module s mod n over all rows, with positions kept and
	// tokens shifted by s, as the modules were trained. Rows that a step ran
	// with drafted tokens run again once the target has confirmed others, from
	// one hidden state per step that the sequence keeps. It needs Sequences,
	// changed by nothing but Draft; Truncate(0) starts one anew. It needs tokens,
	// which it shifts: with more than one step Draft refuses Batch.Embeds.
	ChainAligned Chain = "chain_aligned"
)

// resolve returns the rule for a head of n modules.
func (c Chain) resolve(modules int) (Chain, error) {
	switch c {
	case ChainDefault:
		if modules > 1 {
			return ChainAligned, nil
		}
		return ChainFirst, nil
	case ChainFirst, ChainModOwn, ChainAligned:
		return c, nil
	}
	return "", refuse("Options.Chain", string(c), "chain, chain_mod_own or chain_aligned", nil)
}
