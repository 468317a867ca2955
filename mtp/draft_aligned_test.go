package mtp_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
)

// softmaxAt is the softmax of logits at id.
func softmaxAt(logits []float32, id int) float32 {
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - float64(logits[id]))
	}
	return float32(1 / sum)
}

// shiftedOracle is chain_aligned or chain_target by its definition, in empty caches: step s
// runs module s mod n over all rows, with tokens shifted by s. It returns the drafts
// and the hidden state [hiddenSize], before the final norm, of each.
func shiftedOracle(t testing.TB, head *reference.Head, tokens []int, hidden mat.Matrix, k int, rule mtp.Chain, postNorm bool) (ids []int, states [][]float32) {
	t.Helper()
	positions := make([]int, len(tokens)-1)
	for p := range positions {
		positions[p] = p
	}
	for step := range k {
		stages, err := head.Forward(step%head.Config.NumMTPModules, slices.Concat(tokens[1:], ids)[step:], positions, hidden)
		require.NoError(t, err)
		last := len(positions) - 1
		logits := float32s(stages["logits"])[last*vocabSize:]
		best := 0
		for id, v := range logits {
			if v > logits[best] {
				best = id
			}
		}
		ids = append(ids, best)
		states = append(states, float32s(stages["hidden"])[last*hiddenSize:])
		switch {
		case rule == mtp.ChainTarget:
		case postNorm:
			hidden = stages["final_norm_out"]
		default:
			hidden = stages["hidden"]
		}
	}
	return ids, states
}

// TestShiftedOracle: the oracle of this file is that of package reference.
func TestShiftedOracle(t *testing.T) {
	head := oracle(t, synthetic{modules: 3}.files(t))
	tokens, hidden := randomPassage(1, 12).prompt(12)
	for _, rule := range []mtp.Chain{mtp.ChainAligned, mtp.ChainTarget} {
		want, err := head.Chain(tokens, hidden, 4, rule)
		require.NoError(t, err)
		ids, states := shiftedOracle(t, head, tokens, hidden, 4, rule, false)
		require.Equal(t, want.IDs, ids)
		require.Equal(t, float32s(want.Hidden)[3*hiddenSize:], states[3])
	}
}

// TestShiftedEqualsOracle: over rounds in which the target confirms any number
// of drafts and chains are of any length, every chain is the one that running
// all steps anew over the whole text gives.
func TestShiftedEqualsOracle(t *testing.T) {
	const longest = 26
	for _, c := range []struct {
		modules, maxDraft int
		postNorm          bool
		rule              mtp.Chain
	}{
		{3, 0, false, mtp.ChainAligned}, {3, 5, false, mtp.ChainAligned}, {3, 5, true, mtp.ChainAligned},
		{2, 2, true, mtp.ChainAligned}, {1, 4, false, mtp.ChainAligned}, {1, 3, true, mtp.ChainAligned},
		{3, 1, false, mtp.ChainAligned}, {3, 2, false, mtp.ChainAligned}, {2, 7, false, mtp.ChainAligned},
		{3, 0, false, mtp.ChainTarget}, {3, 5, true, mtp.ChainTarget}, {1, 4, false, mtp.ChainTarget},
		{3, 1, false, mtp.ChainTarget}, {3, 2, false, mtp.ChainTarget}, {2, 7, false, mtp.ChainTarget},
	} {
		for seed := range uint64(2) {
			t.Run(fmt.Sprintf("%s/modules=%d/maxDraft=%d/postNorm=%v/%d", c.rule, c.modules, c.maxDraft, c.postNorm, seed), func(t *testing.T) {
				files := synthetic{modules: c.modules, seed: seed}.files(t)
				want := oracle(t, files)
				head := load(t, files, mtp.Options{Chain: c.rule, MaxDraft: c.maxDraft, PostNorm: c.postNorm, CacheFormat: attention.CacheF32})
				most := c.maxDraft
				if most == 0 {
					most = c.modules
				}
				x, random := randomPassage(100+seed, longest), rand.New(rand.NewPCG(seed, 3))
				s := newCache(t, head, 10).NewSequence()
				for end := 1 + random.IntN(6); end <= longest; end += 1 + random.IntN(most+1) {
					k := 1 + random.IntN(most)
					b := x.batch(s, s.Len(), end)
					var states [][]float32 // of the last row of each step
					b.Observe = func(stage mtp.Stage) {
						if stage.Name == "hidden" {
							states = append(states, stage.Float32[len(stage.Float32)-hiddenSize:])
						}
					}
					got := draft(t, head, b, k)
					tokens, hidden := x.prompt(end)
					ids, wantStates := shiftedOracle(t, want, tokens, hidden, k, c.rule, c.postNorm)
					require.Equal(t, fmt.Sprint([][]int{ids}), fmt.Sprint(got.ids()), "%d rows, k %d", end, k)
					for step, state := range wantStates {
						require.NoError(t, hiptest.Within(states[step], state, 1e-5), "%d rows, k %d, step %d", end, k, step)
					}
				}
			})
		}
	}
}

// TestAlignedNotReady: a sequence that was changed otherwise than by Draft has
// lost the states of the steps, and says so until it starts anew.
func TestAlignedNotReady(t *testing.T) {
	const n = 10
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 16), randomPassage(110, 2*n)
	want := draft(t, head, x.batch(cache.NewSequence(), 0, n), 3)
	for name, change := range map[string]func(s *mtp.Sequence){
		"truncated": func(s *mtp.Sequence) { require.NoError(t, s.Truncate(n-1)) },
		"truncated and filled again": func(s *mtp.Sequence) {
			require.NoError(t, s.Truncate(n-2))
			forward(t, head, x.batch(s, n-2, n), 0)
		},
		"longer by Forward":      func(s *mtp.Sequence) { forward(t, head, x.batch(s, n, n+2), 0) },
		"overwritten by Forward": func(s *mtp.Sequence) { forward(t, head, x.batch(s, n-1, n), 1) },
		"forked from a truncated one": func(s *mtp.Sequence) {
			require.NoError(t, s.Truncate(n-1))
			fork, err := s.Fork()
			require.NoError(t, err)
			_, err = draftOf(t.Context(), head, x.batch(fork, n-1, n), 2)
			require.ErrorIs(t, err, mtp.ErrNotAligned)
			require.NoError(t, fork.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := cache.NewSequence()
			defer s.Close()
			draft(t, head, x.batch(s, 0, n), 3)
			change(s)
			length, free := s.Len(), cache.FreePages()
			_, err := draftOf(t.Context(), head, x.batch(s, length, length+1), 2)
			require.ErrorIs(t, err, mtp.ErrNotAligned)
			require.ErrorIs(t, err, mtp.ErrInput)
			require.Equal(t, []int{length, free}, []int{s.Len(), cache.FreePages()})
			require.NoError(t, s.Truncate(0))
			require.Equal(t, want, draft(t, head, x.batch(s, 0, n), 3))
		})
	}
}
