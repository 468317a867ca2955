package mtp_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// maskOf returns the mask that allows the tokens for which allow is true.
func maskOf(allow func(token int) bool) []uint32 {
	mask := make([]uint32, (vocabSize+31)/32)
	for token := range vocabSize {
		if allow(token) {
			mask[token/32] |= 1 << (token % 32)
		}
	}
	return mask
}

// with returns b with its rows changed.
func with(b *mtp.Batch, change func(i int, r *mtp.Rows)) *mtp.Batch {
	changed := *b
	changed.Sequences = slices.Clone(b.Sequences)
	for i := range changed.Sequences {
		change(i, &changed.Sequences[i])
	}
	return &changed
}

// TestAllowed: each draft is the most likely of the tokens that may follow those before it,
// its probability is among these, and a mask that forbids nothing changes nothing, by every
// rule.
func TestAllowed(t *testing.T) {
	for _, of := range chainCases {
		t.Run(of.name, func(t *testing.T) {
			head := load(t, synthetic{modules: of.modules}.files(t), of.options())
			cache, x := newCache(t, head, 40), randomPassage(910, 6)
			draftWith := func(allowed func([]int32) []uint32) drafted {
				s := cache.NewSequence()
				defer s.Close()
				return draft(t, head, with(x.batch(s, 0, 5), func(_ int, r *mtp.Rows) { r.Allowed = allowed }), 4)
			}
			free := draftWith(nil)
			require.Equal(t, free, draftWith(func([]int32) []uint32 { return nil }))
			require.Equal(t, free, draftWith(func([]int32) []uint32 { return maskOf(func(int) bool { return true }) }))

			var asked [][]int32
			rest := func(drafted []int32) int { return (len(drafted)*2 + 1) % 5 }
			some := draftWith(func(drafted []int32) []uint32 {
				asked = append(asked, slices.Clone(drafted))
				return maskOf(func(token int) bool { return token%5 == rest(drafted) })
			})
			tokens := some[0].Tokens
			require.Len(t, tokens, 4)
			require.Len(t, asked, 4)
			for j, token := range tokens {
				require.Equal(t, tokens[:j], append([]int32{}, asked[j]...))
				require.Equal(t, rest(tokens[:j]), int(token)%5)
			}
			s := cache.NewSequence()
			logits, err := head.Logits(t.Context(), mtp.Hidden{Float32: forward(t, head, x.batch(s, 0, 5), 0)}, []int{4}, 0)
			require.NoError(t, err)
			best, sum := -1, 0.0
			for token, v := range logits {
				if token%5 == 1 {
					sum += math.Exp(float64(v))
					if best < 0 || v > logits[best] {
						best = token
					}
				}
			}
			require.Equal(t, best, int(tokens[0]))
			require.InEpsilon(t, math.Exp(float64(logits[best]))/sum, some[0].Probs[0], 1e-4)

			// A mask of one token makes it certain, which MinProbability sees.
			certain := draft(t, head, with(x.batch(cache.NewSequence(), 0, 5), func(_ int, r *mtp.Rows) {
				r.MinProbability = 0.999
				r.Allowed = func(drafted []int32) []uint32 {
					if len(drafted) == 3 {
						return nil
					}
					return maskOf(func(token int) bool { return token == 7+len(drafted) })
				}
			}), 4)
			require.Equal(t, mtp.Draft{Tokens: []int32{7, 8, 9}, Probs: []float32{1, 1, 1}}, certain[0])
		})
	}
}

// TestAllowedVocabulary: tokens that are allowed but cannot be drafted end the chain.
func TestAllowedVocabulary(t *testing.T) {
	head := load(t, synthetic{modules: 1}.files(t), mtp.Options{DraftVocabulary: []int32{30, 3, 5, 33}})
	x, cache := randomPassage(911, 6), newCache(t, head, 20)
	b := with(join(x.batch(cache.NewSequence(), 0, 3), x.batch(cache.NewSequence(), 0, 4)), func(i int, r *mtp.Rows) {
		r.Sampling = &mtp.Sampling{Temperature: 5, Seed: 1, Stream: uint64(i)}
		if i == 0 {
			r.Allowed = func(drafted []int32) []uint32 {
				return maskOf(func(token int) bool { return token == 33 && len(drafted) < 2 || token == 4 })
			}
		}
	})
	got := draft(t, head, b, 4)
	require.Equal(t, []int32{33, 33}, got[0].Tokens)
	require.Len(t, got[1].Tokens, 4)
	for _, token := range got[1].Tokens {
		require.Contains(t, []int32{30, 3, 5, 33}, token)
	}
	logits := make([]float32, 8*vocabSize)
	verified, err := head.VerifySampled(t.Context(), []mtp.Verification{
		{Draft: got[0], Logits: logits[:3*vocabSize], Sampling: mtp.Sampling{Temperature: 1}},
		{Draft: got[1], Logits: logits[:5*vocabSize], Sampling: mtp.Sampling{Temperature: 1}},
	})
	require.NoError(t, err)
	require.Len(t, verified, 2)
}

// TestDrawnProbability: a drawn draft has MinProbability, which ends the chain only where
// no token has it, and its probability is the head's own at temperature 1.
func TestDrawnProbability(t *testing.T) {
	head := load(t, synthetic{modules: 1}.files(t), mtp.Options{})
	x, cache := randomPassage(912, 6), newCache(t, head, 20)
	s := cache.NewSequence()
	logits, err := head.Logits(t.Context(), mtp.Hidden{Float32: forward(t, head, x.batch(s, 0, 5), 0)}, []int{4}, 0)
	require.NoError(t, err)
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v))
	}
	probabilities := make([]float64, vocabSize)
	for i, v := range logits {
		probabilities[i] = math.Exp(float64(v)) / sum
	}
	sorted := slices.Sorted(slices.Values(probabilities))
	seen := map[int32]bool{}
	for seed := range uint64(60) {
		for _, least := range []float64{0, sorted[vocabSize-3] * (1 - 1e-5), sorted[vocabSize-1] * 1.001} {
			require.NoError(t, s.Truncate(0))
			got := draft(t, head, with(x.batch(s, 0, 5), func(_ int, r *mtp.Rows) {
				r.Sampling, r.MinProbability = &mtp.Sampling{Temperature: 3, Seed: seed}, least
			}), 1)[0]
			if least > sorted[vocabSize-1] {
				require.Empty(t, got.Tokens)
				continue
			}
			require.Len(t, got.Tokens, 1)
			require.InEpsilon(t, probabilities[got.Tokens[0]], got.Probs[0], 1e-4)
			require.GreaterOrEqual(t, float64(got.Probs[0]), least)
			if least > 0 {
				seen[got.Tokens[0]] = true
			}
		}
	}
	require.Len(t, seen, 3, "all that have the probability")
}

// TestDraftSamplingRefused: arguments that are wrong are named, nothing is committed, and
// the same sequences draft afterwards as if nothing had been asked.
func TestDraftSamplingRefused(t *testing.T) {
	head := load(t, synthetic{modules: 1}.files(t), mtp.Options{})
	x, cache := randomPassage(913, 8), newCache(t, head, 20)
	a, b := cache.NewSequence(), cache.NewSequence()
	batch := join(x.batch(a, 0, 3), x.batch(b, 0, 4))
	want := draft(t, head, batch, 3)
	require.NoError(t, a.Truncate(0))
	require.NoError(t, b.Truncate(0))
	after := func(n int, mask []uint32) func([]int32) []uint32 {
		return func(drafted []int32) []uint32 {
			if len(drafted) == n {
				return mask
			}
			return nil
		}
	}
	for message, change := range map[string]func(r *mtp.Rows){
		"Sampling.Temperature is -1, want":                    func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{Temperature: -1} },
		"Sampling.Temperature is NaN":                         func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{Temperature: math.NaN()} },
		"Sampling.Temperature is +Inf":                        func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{Temperature: math.Inf(1)} },
		"Sampling.TopK is -3":                                 func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{TopK: -3} },
		"Sampling.TopP is 2":                                  func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{TopP: 2} },
		"Sampling.TopP is NaN":                                func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{TopP: math.NaN()} },
		"Sampling.MinP is -0.1":                               func(r *mtp.Rows) { r.Sampling = &mtp.Sampling{MinP: -0.1} },
		"Allowed is a mask of 3 words after 2 drafts, want 2": func(r *mtp.Rows) { r.Allowed = after(2, make([]uint32, 3)) },
		"Allowed is a mask of no token after 1 drafts":        func(r *mtp.Rows) { r.Allowed = after(1, make([]uint32, 2)) },
		"Allowed is a mask of no token after 0 drafts":        func(r *mtp.Rows) { r.Allowed = after(0, []uint32{0, 1 << (vocabSize - 32)}) },
	} {
		_, err := head.Draft(t.Context(), with(withDrafts(batch, 3), func(i int, r *mtp.Rows) {
			if i == 1 {
				change(r)
			}
		}))
		var input *mtp.InputError
		require.ErrorAs(t, err, &input, message)
		require.Equal(t, 2, input.Sequence)
		require.ErrorContains(t, err, "mtp: Sequences[1]."+message)
		require.Equal(t, []int{0, 0}, []int{a.Len(), b.Len()})
	}
	require.Equal(t, want, draft(t, head, batch, 3))
}
