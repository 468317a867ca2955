package mtp

import (
	"fmt"
	"math"

	"github.com/drafthead/drafthead/mtp/internal/sampling"
)

// Sampling says how a token is drawn. The filters apply one after the other to
// softmax(logits / Temperature):
//
//	MinP   drops tokens below MinP · the probability of the most likely one
//	TopK   keeps the TopK most likely of these
//	TopP   keeps the most likely of these, as many as come to TopP of their sum
//
// Tokens as likely as the last one that a filter keeps stay too. The zero Sampling takes
// the most likely token; of equal ones the lowest id.
//
// Random numbers are those of Philox 4×32-10. Seed is the key; Stream, the position of the
// token in the text and its number in the chain are the counter. What is drawn depends
// neither on the batch nor on the device. Give each sequence of a seed a Stream of its own.
//
// With [Rows].Sampling, Draft draws its tokens, and [Head.VerifySampled] decides in the
// place of [Verify]. The text has exactly the target's distribution, whatever the drafts;
// they only decide how fast it comes:
//
//	sampling := mtp.Sampling{Temperature: 0.7, TopP: 0.9, Seed: seed, Stream: uint64(sequence)}
//
//	drafts, err := head.Draft(ctx, &mtp.Batch{
//		Sequences: []mtp.Rows{{Sequence: seq, Position: seq.Len(), Tokens: tokens, Drafts: 4, Sampling: &sampling}},
//		Hidden:    mtp.Hidden{BFloat16: states},
//	})
//	verified, err := head.VerifySampled(ctx, []mtp.Verification{{
//		Draft: drafts[0], Position: len(text), Sampling: sampling,
//		Device: logits, // [len(Tokens)+1, vocab_size] float32, of the target's forward
//	}})
//	text = append(text, drafts[0].Tokens[:verified[0].Accepted]...)
//	text = append(text, verified[0].Next)
//
// A greedy target takes the zero Sampling, and a sequence that drafted nothing an empty
// Draft: VerifySampled then draws the next token.
type Sampling struct {
	Temperature float64 // 0: the most likely token; otherwise finite and positive
	TopK        int     // 0: all
	TopP        float64 // 0 to 1; 0: all, like 1
	MinP        float64 // 0 to 1; 0: all
	Seed        uint64
	Stream      uint64
}

// check returns an error that names a field of the i-th sequence or chain, made by refuse.
func (s *Sampling) check(i int, refuse refuseFunc) error {
	bad := func(field string, got any, want string) error {
		return refuse(i, "Sampling."+field, got, want, nil)
	}
	switch {
	case !(s.Temperature >= 0 && s.Temperature <= math.MaxFloat64):
		return bad("Temperature", s.Temperature, "a finite number, at least 0")
	case s.TopK < 0:
		return bad("TopK", s.TopK, "at least 0")
	case !(s.TopP >= 0 && s.TopP <= 1):
		return bad("TopP", s.TopP, "0 to 1")
	case !(s.MinP >= 0 && s.MinP <= 1):
		return bad("MinP", s.MinP, "0 to 1")
	}
	return nil
}

// params returns the parameters of draft j of a chain whose first draft is at position
// first of the text.
func (s *Sampling) params(first, j int) sampling.Params {
	return sampling.Params{
		Temperature: s.Temperature, TopP: s.TopP, MinP: s.MinP, Seed: s.Seed, Stream: s.Stream,
		First: uint32(first), Index: uint32(j), TopK: int32(min(s.TopK, math.MaxInt32)),
	}
}

// maskWords is how many words a mask has.
func (h *Head) maskWords() int { return (h.config.VocabSize + 31) / 32 }

// checkMask checks the mask of a draft, with the number of drafts before it, of the i-th
// sequence or chain. The error is made by refuse.
func (h *Head) checkMask(i, drafted int, mask []uint32, refuse refuseFunc) error {
	bad := func(got string, want string) error {
		return refuse(i, "Allowed", fmt.Sprintf("a mask of %s after %d drafts", got, drafted), want, nil)
	}
	if want := h.maskWords(); len(mask) != want {
		return bad(fmt.Sprintf("%d words", len(mask)), fmt.Sprintf("%d, a bit for each of %d tokens", want, h.config.VocabSize))
	}
	some := uint32(0)
	for w, word := range mask {
		if rest := h.config.VocabSize - 32*w; rest < 32 {
			word &= 1<<rest - 1
		}
		some |= word
	}
	if some == 0 {
		return bad("no token", "at least one that is allowed")
	}
	return nil
}

// allowed reports whether a mask, which may be nil, allows a token.
func allowed(mask []uint32, token int32) bool {
	return mask == nil || mask[token/32]>>(token%32)&1 != 0
}

// distribution is what a draft was drawn from: tokens in ascending order with their
// weights, as package sampling has them.
type distribution struct {
	ids     []int32
	weights []float32
}
