package mtp_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/mtp/reference"
)

// rule is the oracle's name for a case; "" where it has none.
func (c chainCase) rule() mtp.Chain {
	switch {
	case c.chain == mtp.ChainTarget:
		return mtp.ChainTarget
	case c.shifts() && !c.postNorm:
		return mtp.ChainAligned
	case c.chain == mtp.ChainModOwn && !c.postNorm:
		return mtp.ChainModOwn
	case c.chain == mtp.ChainModOwn || c.shifts():
		return ""
	case c.postNorm:
		return "chain_postnorm"
	}
	return mtp.ChainFirst
}

// requireChain compares drafts with an oracle's: ids, and the softmax of its logits.
func requireChain(t testing.TB, want *reference.Drafts, got drafted) {
	t.Helper()
	logits := float32s(want.Logits)
	var ids []int32
	var probs []float32
	for i, id := range want.IDs {
		ids = append(ids, int32(id))
		probs = append(probs, softmaxAt(logits[i*vocabSize:(i+1)*vocabSize], id))
	}
	require.Equal(t, [][]int32{ids}, got.ids())
	require.NoError(t, hiptest.Within(got.probs()[0], probs, 1e-5))
}

func TestDraftEqualsOracle(t *testing.T) {
	for _, c := range chainCases {
		if c.rule() == "" {
			continue // covered step by step in TestShiftedEqualsOracle and TestDraftModOwnPostNorm
		}
		for _, format := range []string{"F32", "MXFP8"} {
			t.Run(c.name+"/"+format, func(t *testing.T) {
				files := synthetic{modules: c.modules, format: format}.files(t)
				head, want := load(t, files, c.options()), oracle(t, files)
				cache := newCache(t, head, 9)
				for _, n := range []int{1, 2, 4, 13, 28} {
					x := randomPassage(uint64(30+n), n)
					tokens, hidden := x.prompt(n)
					chain, err := want.Chain(tokens, hidden, 4, c.rule())
					require.NoError(t, err)
					s := cache.NewSequence()
					requireChain(t, chain, draft(t, head, x.batch(s, 0, n), 4))
					require.NoError(t, s.Close())
				}
			})
		}
	}
}

// TestDraftModOwnPostNorm: the one rule that the oracle lacks, by hand from Forward.
func TestDraftModOwnPostNorm(t *testing.T) {
	const n, k = 11, 5
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Chain: mtp.ChainModOwn, PostNorm: true})
	cache, x := newCache(t, head, 8), randomPassage(41, n)
	s := cache.NewSequence()
	states := forward(t, head, x.batch(s, 0, n), 0)[(n-1)*hiddenSize:]
	var ids []int32
	for step := range k {
		logits, err := head.Logits(t.Context(), mtp.Hidden{Float32: states}, nil, step)
		require.NoError(t, err)
		best := slices.Index(logits, slices.Max(logits))
		ids = append(ids, int32(best))
		states, err = head.FinalNorm(t.Context(), mtp.Hidden{Float32: states}, nil, step)
		require.NoError(t, err)
		states = forward(t, head, &mtp.Batch{
			Sequences: []mtp.Rows{{Sequence: s, Tokens: ids[step:], Position: n + step}}, Hidden: mtp.Hidden{Float32: states},
		}, step+1)
	}
	require.Equal(t, [][]int32{ids}, draft(t, head, x.batch(cache.NewSequence(), 0, n), k).ids())
}

// TestDraftRagged: in a batch of sequences that are at different points, each
// drafts the bits that it drafts alone, over two rounds.
func TestDraftRagged(t *testing.T) {
	rounds := [][2]int{{1, 3}, {9, 10}, {5, 12}, {16, 17}} // rows after each round
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 64)
			var first, second []*mtp.Batch
			var want [][2]drafted
			for i, r := range rounds {
				x := randomPassage(uint64(50+i), r[1])
				alone, together := cache.NewSequence(), cache.NewSequence()
				want = append(want, [2]drafted{draft(t, head, x.batch(alone, 0, r[0]), 3), draft(t, head, x.batch(alone, r[0], r[1]), 4)})
				first, second = append(first, x.batch(together, 0, r[0])), append(second, x.batch(together, r[0], r[1]))
			}
			for round, b := range []*mtp.Batch{join(first...), join(second...)} {
				got := draft(t, head, b, 3+round)
				for i := range rounds {
					require.Equal(t, want[i][round], got.one(i), "sequence %d, round %d", i, round)
				}
			}
		})
	}
}

// TestDraftInPieces: committing rows in several calls is committing them in one.
func TestDraftInPieces(t *testing.T) {
	const n = 21
	for _, c := range chainCases {
		if c.chain == mtp.ChainModOwn && c.modules > 1 {
			continue // later modules keep no rows of a call: see the rule's holes
		}
		head := load(t, synthetic{modules: c.modules}.files(t), c.options())
		cache, x := newCache(t, head, 24), randomPassage(60, n)
		want := draft(t, head, x.batch(cache.NewSequence(), 0, n), 4)
		for name, cut := range cuts {
			t.Run(c.name+"/"+name, func(t *testing.T) {
				s := cache.NewSequence()
				defer s.Close()
				var got drafted
				for i, end := range ends(cut, n) {
					k := 1 + i%4 // provisional rows of any length
					if end == n {
						k = 4
					}
					got = draft(t, head, x.batch(s, s.Len(), end), k)
				}
				require.Equal(t, want, got)
			})
		}
	}
}

// TestDraftModOwnInPieces: module 0 sees every committed row, the others none.
func TestDraftModOwnInPieces(t *testing.T) {
	const n = 13
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Chain: mtp.ChainModOwn})
	cache, x := newCache(t, head, 12), randomPassage(61, n)
	want := draft(t, head, x.batch(cache.NewSequence(), 0, n), 5)
	s := cache.NewSequence()
	for _, end := range []int{2, 7, 8} {
		draft(t, head, x.batch(s, s.Len(), end), 5)
	}
	require.Equal(t, want, draft(t, head, x.batch(s, 8, n), 5))
}

// TestDraftMinProbability: a chain ends before the first token that is too
// unlikely; the tokens before it, and the rounds after, are as without.
func TestDraftMinProbability(t *testing.T) {
	const n, k = 12, 4
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			files := synthetic{modules: c.modules}.files(t)
			run := func(least float64) (rounds [2]drafted) {
				head := load(t, files, c.options())
				cache := newCache(t, head, 48)
				var first, second []*mtp.Batch
				for i := range 6 {
					x, s := randomPassage(uint64(70+i), n+3), cache.NewSequence()
					first, second = append(first, x.batch(s, 0, n-i)), append(second, x.batch(s, n-i, n+3))
				}
				for round, b := range []*mtp.Batch{join(first...), join(second...)} {
					rounds[round] = draft(t, head, atLeast(b, least), k)
				}
				return rounds
			}
			free := run(0)
			all := slices.Sorted(slices.Values(slices.Concat(free[0].probs()...)))
			lengths := map[int]bool{}
			for _, least := range []float64{float64(all[len(all)/4]), float64(all[len(all)/2]), 1} {
				for round, got := range run(least) {
					for i, probs := range free[round].probs() {
						end := slices.IndexFunc(probs, func(p float32) bool { return float64(p) < least })
						if end < 0 {
							end = k
						}
						lengths[end] = true
						require.Equal(t, fmt.Sprint(free[round].ids()[i][:end]), fmt.Sprint(got.ids()[i]), "at least %v, sequence %d", least, i)
						require.Equal(t, fmt.Sprint(probs[:end]), fmt.Sprint(got.probs()[i]))
					}
				}
			}
			require.Greater(t, len(lengths), 2, "chains of several lengths")
		})
	}
}

// TestDraftBlockTable: with pages of an engine's, which reach over the chain.
func TestDraftBlockTable(t *testing.T) {
	const n, k = 14, 4
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Chain: mtp.ChainFirst})
	x := randomPassage(80, n)
	own := newCache(t, head, 8).NewSequence()
	cache := newCache(t, head, 8)
	for _, rows := range [][2]int{{0, 9}, {9, n}} {
		want := draft(t, head, x.batch(own, rows[0], rows[1]), k)
		b := x.batch(nil, rows[0], rows[1])
		b.Sequences[0].BlockTable, b.Cache = []int32{6, 2, 7, 0, 1}, cache
		require.Equal(t, want, draft(t, head, b, k))
	}
	require.Equal(t, cache.Pages(), cache.FreePages())
}

// TestDraftChecked repeats every launch of two rounds on the reference.
func TestDraftChecked(t *testing.T) {
	const n = 26
	for _, c := range chainCases {
		for _, format := range []string{"F32", "BF16", "MXFP8"} {
			t.Run(c.name+"/"+format, func(t *testing.T) {
				files := synthetic{modules: c.modules, format: format}.files(t)
				x := randomPassage(90, n)
				run := func(d hip.Device) (rounds [2]drafted) {
					options := c.options()
					options.Device = openDevice(t, d)
					head := load(t, files, options)
					s := newCache(t, head, 9).NewSequence()
					rounds[0] = draft(t, head, x.batch(s, 0, n-3), 3)
					rounds[1] = draft(t, head, x.batch(s, n-3, n), 4)
					return rounds
				}
				want, got := run(hip.NewReference()), run(hip.Check(hip.NewHost(3)))
				for round := range want {
					require.Equal(t, want[round].ids(), got[round].ids())
					require.NoError(t, hiptest.Within(got[round].probs()[0], want[round].probs()[0], 1e-4))
				}
			})
		}
	}
}
