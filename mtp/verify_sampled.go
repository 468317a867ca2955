package mtp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp/internal/sampling"
)

// Verification is a chain of drafts with what a sampling target says of it.
type Verification struct {
	// Draft is what Draft returned; its Tokens may be cut short. If it has no tokens, the
	// next token is drawn, so that VerifySampled samples where nothing was drafted. Tokens
	// from elsewhere may be verified too, as a Draft that has nothing but Tokens.
	Draft Draft

	// Position is that of the first drafted token in the text: the length of the text that
	// is confirmed. It is part of the random numbers' counter.
	Position int

	// Sampling says how the target samples.
	Sampling Sampling

	// Logits are the target's logits after the confirmed text and after each draft,
	// [len(Tokens)+1, vocab_size] float32. Device is the alternative to Logits: the same in
	// memory that the head's device knows, as [Hidden] says. VerifySampled copies them and
	// does not change them.
	Logits []float32
	Device hip.Ptr

	// Probabilities says that the values are the probabilities to draw from in place of
	// logits. They need not sum to 1. Only Seed and Stream of Sampling are used then.
	Probabilities bool

	// Allowed limits the tokens of the target, as Rows.Allowed limits those of the draft. It
	// is called with the drafted tokens before each row, as long as they are allowed.
	Allowed func(drafted []int32) []uint32

	// Block asks for block verification (Sun et al., 2024, arXiv 2403.10444): drafts are
	// judged together, which accepts at least as many on average. The text has the same
	// distribution.
	Block bool
}

// Verified is what VerifySampled decides about a chain.
type Verified struct {
	Accepted int   // drafts that are confirmed, from the first on
	Next     int32 // the target's token after them

	// Err is not nil if a row of logits holds NaN or nothing but −∞, or a row of
	// probabilities holds one that is negative or not finite, or nothing but 0. The other
	// chains are not affected.
	Err error
}

// verifyBytes bounds the logits that are on the device at the same time, unless one chain
// has more.
const verifyBytes = 64 << 20

// VerifySampled verifies drafted chains of a target that samples, and returns one Verified
// for each. The text grows by accepted + 1 tokens and has exactly the target's distribution
// p, whatever the drafts: a draft d is accepted with probability
//
//	min(1, p(d) / q(d))
//
// where q is what it was drawn from (a greedy draft was certain), and after a rejection the
// next token is drawn from max(p − q, 0). The decisions are made on the device: accepted
// counts and tokens are all that comes back.
//
// At temperature 0 it decides as [Verify] does with the most likely tokens. An argument
// that is wrong is an [InputError] whose Sequence counts the chains; nothing is decided
// then. Other errors are those of ctx and of the device.
func (h *Head) VerifySampled(ctx context.Context, chains []Verification) ([]Verified, error) {
	if err := h.enter(); err != nil {
		return nil, err
	}
	defer h.leave()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mtp: %w", err)
	}
	for i := range chains {
		if err := h.checkVerification(i, &chains[i]); err != nil {
			return nil, err
		}
	}
	masks, err := h.verificationMasks(chains)
	if err != nil || len(chains) == 0 {
		return nil, err
	}
	w := h.takeWorkspace()
	defer h.giveWorkspace(w, len(chains))
	var verified []Verified
	for len(verified) < len(chains) {
		first, rows := len(verified), 0
		end := first
		for end < len(chains) {
			rows += len(chains[end].Draft.Tokens) + 1
			if end > first && rows*h.config.VocabSize > verifyBytes/4 {
				break
			}
			end++
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("mtp: %w", err)
		}
		part, err := h.verifySampled(w, chains[first:end], masks[first:end])
		if err != nil {
			return nil, err
		}
		verified = append(verified, part...)
	}
	return verified, nil
}

// checkVerification checks the i-th verification.
func (h *Head) checkVerification(i int, v *Verification) error {
	d, vocab := &v.Draft, h.config.VocabSize
	rows := len(d.Tokens) + 1
	switch {
	case d.drawn != nil && len(d.Tokens) > len(d.drawn):
		return refuseChain(i, "len(Draft.Tokens)", len(d.Tokens), fmt.Sprintf("at most %d, as many as were drafted", len(d.drawn)), nil)
	case len(d.Tokens) > maxDraft:
		return refuseChain(i, "len(Draft.Tokens)", len(d.Tokens), fmt.Sprintf("at most %d", maxDraft), nil)
	case v.Position < 0 || v.Position > math.MaxInt32:
		return refuseChain(i, "Position", v.Position, fmt.Sprintf("0 to %d", math.MaxInt32), nil)
	case v.Logits == nil && v.Device == 0:
		return refuseChain(i, "Logits", "nil, and Device 0", "one of them: the target's logits", nil)
	case v.Logits != nil && v.Device != 0:
		return refuseChain(i, "Logits", "given, and Device too", "one of them", nil)
	case v.Logits != nil && len(v.Logits) != rows*vocab:
		return refuseChain(i, "len(Logits)", len(v.Logits), fmt.Sprintf("%d, (drafts + 1) × vocab_size", rows*vocab), nil)
	}
	for j, token := range d.Tokens {
		field := fmt.Sprintf("Draft.Tokens[%d]", j)
		if token < 0 || int(token) >= vocab {
			return refuseChain(i, field, token, fmt.Sprintf("0 to %d", vocab-1), errToken)
		}
		if d.drawn == nil || d.drawn[j].ids == nil {
			continue
		}
		ids := d.drawn[j].ids
		if _, found := slices.BinarySearch(ids, token); !found {
			return refuseChain(i, field, token, "the token that was drafted", nil)
		}
		if last := ids[len(ids)-1]; int(last) >= vocab {
			return refuseChain(i, "Draft", "another head's", "one of this head", errToken)
		}
	}
	if err := v.Sampling.check(i, refuseChain); err != nil || v.Device == 0 {
		return err
	}
	if uint64(v.Device)%4 != 0 {
		return refuseChain(i, "Device", fmt.Sprintf("memory at %#x", uint64(v.Device)), "an address that is a multiple of 4", nil)
	}
	err := h.checkRange(v.Device, 4*int64(rows)*int64(vocab), false)
	if errors.Is(err, hip.ErrAccess) {
		want := fmt.Sprintf("%d × %d float32 that the device knows (Alloc, Adopt, Import)", rows, vocab)
		return refuseChain(i, "Device", fmt.Sprintf("memory at %#x", uint64(v.Device)), want, err)
	}
	return err
}

// rowMask is the mask of a row of a chain.
type rowMask struct {
	row  int
	mask []uint32
}

// verificationMasks asks for the masks of each chain.
func (h *Head) verificationMasks(chains []Verification) ([][]rowMask, error) {
	masks := make([][]rowMask, len(chains))
	for i := range chains {
		v := &chains[i]
		if v.Allowed == nil {
			continue
		}
		tokens := v.Draft.Tokens
		for j := range len(tokens) + 1 {
			mask := v.Allowed(tokens[:j:j])
			if mask != nil {
				if err := h.checkMask(i, j, mask, refuseChain); err != nil {
					return nil, err
				}
				masks[i] = append(masks[i], rowMask{j, slices.Clone(mask)})
			}
			if j < len(tokens) && !allowed(mask, tokens[j]) {
				break // it is rejected, so that no later row counts
			}
		}
	}
	return masks, nil
}

// verifySampled verifies chains whose logits are on the device together.
func (h *Head) verifySampled(w *workspace, chains []Verification, masks [][]rowMask) ([]Verified, error) {
	if err := w.start(); err != nil {
		return nil, err
	}
	vocab, n := h.config.VocabSize, len(chains)
	s := stageVerifications(w, chains, masks)
	err := errors.Join(
		w.grow(need{&w.logits, s.rows * vocab}), w.sampler.GrowVerify(w.device, s.rows, vocab, n), w.down.Expect(2*n), w.up.Upload(),
	)
	if err != nil {
		return nil, err
	}
	row := 0
	for i := range chains {
		v, to := &chains[i], w.logits.Ptr().Add(4*int64(row*vocab))
		if v.Device != 0 {
			err = w.device.Copy(to, v.Device, 4*int64(len(v.Draft.Tokens)+1)*int64(vocab))
		} else {
			err = hip.WriteOf(w.device, to, v.Logits)
		}
		if err != nil {
			return nil, err
		}
		row += len(v.Draft.Tokens) + 1
	}
	err = w.run(false, func(d hip.Device) error {
		for _, m := range s.masked {
			err := sampling.Allow(d, w.logits.Ptr(), w.up.At(m.masksAt), w.up.At(m.rowsAt), 0, s.rows, m.masks, vocab, h.maskWords(), m.probabilities)
			if err != nil {
				return err
			}
		}
		if err := w.sampler.Verify(d, s.chains(w), w.logits.Ptr(), vocab); err != nil {
			return err
		}
		return w.down.Bring(d, 2*n)
	})
	if err != nil {
		return nil, err
	}
	values, err := w.wait(2 * n)
	if err != nil {
		return nil, err
	}
	verified := make([]Verified, n)
	for i := range verified {
		if verified[i] = (Verified{Accepted: int(values[i]), Next: values[n+i]}); values[i] < 0 {
			verified[i] = Verified{Err: errNaN}
		}
	}
	return verified, nil
}

// stagedChains is chains as words that are on their way to the device.
type stagedChains struct {
	n, rows, listed                                           int
	paramsAt, firstAt, blockAt, tokensAt, listAt, idsAt, wsAt int
	masked                                                    []stagedMasks
}

// stagedMasks is masks of logits, or of probabilities.
type stagedMasks struct {
	masks, rowsAt, masksAt int
	probabilities          bool
}

// stageVerifications adds all that kernels read of chains, but for their logits, to the
// words.
func stageVerifications(w *workspace, chains []Verification, masks [][]rowMask) *stagedChains {
	s := &stagedChains{n: len(chains)}
	var params, first, block, tokens, listAt, ids []int32
	var weights []float32
	for i := range chains {
		v := &chains[i]
		if first, block = append(first, int32(s.rows)), append(block, 0); v.Block {
			block[i] = 1
		}
		for j := range len(v.Draft.Tokens) + 1 {
			p := v.Sampling.params(v.Position, j)
			if v.Probabilities {
				p.Flags = sampling.FlagProbabilities
			}
			params = sampling.AppendParams(params, &p)
		}
		for j, token := range v.Draft.Tokens {
			tokens, listAt = append(tokens, token), append(listAt, int32(len(ids)))
			if v.Draft.drawn == nil || v.Draft.drawn[j].ids == nil { // certain
				ids, weights = append(ids, token), append(weights, 1)
			} else {
				ids, weights = append(ids, v.Draft.drawn[j].ids...), append(weights, v.Draft.drawn[j].weights...)
			}
		}
		s.rows += len(v.Draft.Tokens) + 1
	}
	first, listAt, s.listed = append(first, int32(s.rows)), append(listAt, int32(len(ids))), len(ids)
	s.paramsAt = w.up.Add(params)
	s.firstAt, s.blockAt, s.tokensAt, s.listAt = w.up.Add(first), w.up.Add(block), w.up.Add(tokens), w.up.Add(listAt)
	s.idsAt, s.wsAt = w.up.Add(ids), w.up.AddFloats(weights)
	for _, probabilities := range []bool{false, true} {
		s.stageMasks(w, chains, masks, probabilities)
	}
	return s
}

// stageMasks adds the masks of chains with logits, or of those with probabilities.
func (s *stagedChains) stageMasks(w *workspace, chains []Verification, masks [][]rowMask, probabilities bool) {
	m := stagedMasks{probabilities: probabilities}
	var rows, words []int32
	row := 0
	for i := range chains {
		for _, mask := range masks[i] {
			if chains[i].Probabilities == probabilities {
				rows, m.masks = append(rows, int32(row+mask.row)), m.masks+1
				for _, word := range mask.mask {
					words = append(words, int32(word))
				}
			}
		}
		row += len(chains[i].Draft.Tokens) + 1
	}
	if m.masks > 0 {
		m.rowsAt, m.masksAt = w.up.Add(rows), w.up.Add(words)
		s.masked = append(s.masked, m)
	}
}

// chains returns the chains where kernels find them.
func (s *stagedChains) chains(w *workspace) *sampling.Chains {
	return &sampling.Chains{
		Params: w.up.At(s.paramsAt), First: w.up.At(s.firstAt), Block: w.up.At(s.blockAt), Tokens: w.up.At(s.tokensAt),
		ListAt: w.up.At(s.listAt), ListIDs: w.up.At(s.idsAt), ListWeights: w.up.At(s.wsAt),
		Accepted: w.down.At(0), Next: w.down.At(s.n), Rows: s.rows, Chains: s.n, Listed: s.listed,
	}
}
