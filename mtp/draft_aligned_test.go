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

// TestResume: a sequence that was cut, or changed otherwise than by Draft, is given rows
// again from Resume on, and then drafts as if nothing had happened. Until then an error says
// from where on.
func TestResume(t *testing.T) {
	const n, steps = 10, 3
	for _, rule := range []mtp.Chain{mtp.ChainAligned, mtp.ChainTarget} {
		head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Chain: rule})
		cache, x := newCache(t, head, 32), randomPassage(110, 2*n)
		for name, c := range map[string]struct {
			change      func(s *mtp.Sequence)
			rows, again int
		}{
			"not changed": {func(*mtp.Sequence) {}, n, 0},
			"truncated":   {func(s *mtp.Sequence) { require.NoError(t, s.Truncate(n-1)) }, n - 1, 2},
			"truncated to a row": {func(s *mtp.Sequence) {
				require.NoError(t, s.Truncate(1))
			}, 1, 1},
			"truncated to nothing": {func(s *mtp.Sequence) { require.NoError(t, s.Truncate(0)) }, 0, 0},
			"truncated and filled again": {func(s *mtp.Sequence) {
				require.NoError(t, s.Truncate(n-2))
				forward(t, head, x.batch(s, n-2, n), 0)
			}, n, 4},
			"longer by Forward":          {func(s *mtp.Sequence) { forward(t, head, x.batch(s, n, n+2), 0) }, n + 2, 4},
			"longer by Forward, and cut": {func(s *mtp.Sequence) { forward(t, head, x.batch(s, n, n+2), 1); require.NoError(t, s.Truncate(n)) }, n, 2},
			"overwritten by Forward":     {func(s *mtp.Sequence) { forward(t, head, x.batch(s, n-1, n), 1) }, n, 3},
			"reserved":                   {func(s *mtp.Sequence) { require.NoError(t, s.Reserve(9)) }, n, 0},
		} {
			t.Run(string(rule)+"/"+name, func(t *testing.T) {
				whole, s := cache.NewSequence(), cache.NewSequence()
				defer whole.Close()
				defer s.Close()
				draft(t, head, x.batch(whole, 0, n-3), 3)
				draft(t, head, x.batch(s, 0, n), 3)
				c.change(s)
				want := draft(t, head, x.batch(whole, whole.Len(), n+3), 3)
				require.Equal(t, []int{c.rows, c.rows - c.again}, []int{s.Len(), s.Resume()})
				fork, err := s.Fork()
				require.NoError(t, err)
				defer fork.Close()
				require.Equal(t, s.Resume(), fork.Resume())
				table, free := s.BlockTable(), cache.FreePages()
				for from := s.Resume() + 1; from <= s.Len(); from++ {
					if c.again == 0 {
						break
					}
					_, err := draftOf(t.Context(), head, x.batch(s, from, n+3), 2)
					require.ErrorIs(t, err, mtp.ErrInput)
					require.EqualError(t, err, fmt.Sprintf("mtp: Sequences[0].Position is %d, want at most %d: the rows from there on run again", from, s.Resume()))
				}
				if end := s.Len() - 1; end > s.Resume() {
					_, err := draftOf(t.Context(), head, x.batch(s, s.Resume(), end), 2)
					require.EqualError(t, err, fmt.Sprintf("mtp: Sequences[0].Tokens is %d rows at position %d, want at least %d, up to the end of the sequence", end-s.Resume(), s.Resume(), c.again))
				}
				require.Equal(t, []any{table, free}, []any{s.BlockTable(), cache.FreePages()}, "nothing was taken")
				for _, s := range []*mtp.Sequence{s, fork} {
					require.Equal(t, want, draft(t, head, x.batch(s, s.Resume(), n+3), 3))
					require.Equal(t, n+3, s.Resume())
				}
			})
		}
	}
}

// TestRowsAgain: rows that are there may be given again, any number from the least on, and
// also alone, to draft anew from the last.
func TestRowsAgain(t *testing.T) {
	const n, steps = 12, 4
	for _, c := range chainCases {
		if !c.shifts() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache, x := newCache(t, head, 32), randomPassage(111, n+2)
			want := []drafted{draft(t, head, x.batch(cache.NewSequence(), 0, n), 3), draft(t, head, x.batch(cache.NewSequence(), 0, n+2), 4)}
			s := cache.NewSequence()
			draft(t, head, x.batch(s, 0, n), 2)
			for from := n - (c.maxDraft - 1); from >= 0; from -= 3 {
				require.Equal(t, want[0], draft(t, head, x.batch(s, from, n), 3), "from %d", from)
				fork, err := s.Fork()
				require.NoError(t, err)
				require.Equal(t, want[1], draft(t, head, x.batch(fork, from, n+2), 4), "from %d", from)
				require.NoError(t, fork.Close())
			}
			_, err := draftOf(t.Context(), head, x.batch(s, n-1, n+1), 2)
			require.EqualError(t, err, fmt.Sprintf("mtp: Sequences[0].Position is 11, want 12, the rows that the sequence has, or at most %d, to run those after it again", n-(c.maxDraft-1)))
			_, err = draftOf(t.Context(), head, x.batch(s, 1, n-1), 2)
			require.EqualError(t, err, "mtp: Sequences[0].Tokens is 10 rows at position 1, want at least 11, up to the end of the sequence")
		})
	}
}
