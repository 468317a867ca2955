package mtp_test

import (
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestStatsCountChains: chains count when the next Draft shows what became of them, with
// sequences and with block tables.
func TestStatsCountChains(t *testing.T) {
	for _, tables := range []bool{false, true} {
		head := load(t, synthetic{}.files(t), mtp.Options{})
		cache, x := newCache(t, head, 16), randomPassage(70, 40)
		seq, position := cache.NewSequence(), 0
		table := []int32{3, 1, 5, 7, 9, 11, 13, 15}
		step := func(drafts int, tokens ...int32) mtp.Draft {
			t.Helper()
			r := mtp.Rows{Sequence: seq, Tokens: tokens, Position: position, Drafts: drafts}
			if tables {
				r.Sequence, r.BlockTable = nil, table
			}
			d, err := head.Draft(t.Context(), &mtp.Batch{
				Sequences: []mtp.Rows{r}, Cache: cache, Hidden: mtp.Hidden{Float32: x.states(position, position+len(tokens))},
			})
			require.NoError(t, err)
			position += len(tokens)
			return d[0]
		}
		other := func(token int32) int32 { return (token + 1) % vocabSize }
		require.Zero(t, head.Stats().NumDrafts)

		d := step(3, 5, 6, 7).Tokens
		require.Len(t, d, 3)
		require.Zero(t, head.Stats().NumDrafts, "not yet judged")
		d = step(2, d[0], d[1], other(d[2])).Tokens // two of three
		d = step(3, d[0], d[1], 9).Tokens           // two of two
		d = step(1, other(d[0])).Tokens             // none of three
		d = step(0, d[0], 4).Tokens                 // one of one
		require.Empty(t, d)
		step(2, 1)

		s := head.Stats()
		require.Equal(t, int64(4), s.NumDrafts)
		require.Equal(t, int64(9), s.NumDraftTokens)
		require.Equal(t, int64(5), s.NumAcceptedTokens)
		require.Equal(t, []int64{4, 3, 2}, s.NumDraftTokensPerPos)
		require.Equal(t, []int64{3, 2, 0}, s.NumAcceptedTokensPerPos)
		require.Equal(t, int64(position), s.NumRows)
		require.Equal(t, 16, s.Pages)
		require.Zero(t, s.NumCacheFull)

		if !tables {
			// Rows that do not follow the chain say nothing of it.
			require.NoError(t, seq.Truncate(2))
			position = 2
			step(1, 8)
			require.Equal(t, int64(4), head.Stats().NumDrafts)
			require.Less(t, head.Stats().FreePages, 16)
		}
	}
}

// TestStatsCountFaults: full caches and probabilities that are no numbers.
func TestStatsCountFaults(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 1), randomPassage(71, 40)
	seq := cache.NewSequence()
	_, err := head.Draft(t.Context(), x.batch(seq, 0, 40))
	require.ErrorIs(t, err, attention.ErrCacheFull)
	b := x.batch(seq, 0, 2)
	b.Hidden.Float32 = slices.Repeat([]float32{float32(math.NaN())}, 2*hiddenSize)
	b.Sequences[0].Drafts = 1
	_, err = head.Draft(t.Context(), b)
	require.NoError(t, err)
	s := head.Stats()
	require.Equal(t, [2]int64{1, 1}, [2]int64{s.NumCacheFull, s.NumNaN})
	require.NoError(t, head.Close())
	require.Zero(t, head.Stats())
	require.Zero(t, head.Memory())
}

// TestMemory: what is reported is what the device holds.
func TestMemory(t *testing.T) {
	d := openDevice(t, hip.NewReference())
	head := load(t, synthetic{}.files(t), mtp.Options{Device: d})
	loaded, _ := hiptest.InUse(d)
	require.Equal(t, head.Report().Bytes, head.Memory().Weights)
	require.Zero(t, head.Memory().Caches+head.Memory().Workspaces)
	cache, x := newCache(t, head, 16), randomPassage(72, 40)
	draft(t, head, x.batch(cache.NewSequence(), 0, 20), 3)
	m := head.Memory()
	require.Equal(t, cache.Bytes(), m.Caches)
	used, _ := hiptest.InUse(d)
	require.Equal(t, used-loaded, m.Caches+m.Workspaces)
	require.Positive(t, m.Workspaces)
	require.Equal(t, m, head.Stats().Memory)
	require.NoError(t, cache.Close())
	require.Zero(t, head.Memory().Caches)
}

// TestLongCallsRunInPieces: drafts and hidden states are those of a call in one piece, bit
// by bit on the reference device, and the working memory is a fraction.
func TestLongCallsRunInPieces(t *testing.T) {
	x, y := randomPassage(73, 60), randomPassage(74, 60)
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			run := func(most int) (drafts drafted, hidden []float32, work int64) {
				opts := c.options()
				opts.MaxRows = most
				head := load(t, synthetic{modules: c.modules}.files(t), opts)
				cache := newCache(t, head, 80)
				a, b := cache.NewSequence(), cache.NewSequence()
				drafts = draft(t, head, join(x.batch(a, 0, 50), y.batch(b, 0, 33)), 2)
				drafts = append(drafts, draft(t, head, join(x.batch(a, 50, 53), y.batch(b, 33, 60)), 2)...)
				work = head.Memory().Workspaces
				other := cache.NewSequence()
				return drafts, forward(t, head, x.batch(other, 0, 60), 0), work
			}
			drafts, hidden, work := run(0)
			for _, most := range []int{1, 7, 16} {
				inPieces, hiddenInPieces, less := run(most)
				require.Equal(t, drafts, inPieces, "%d rows at once", most)
				require.Equal(t, hidden, hiddenInPieces, "%d rows at once", most)
				require.Less(t, 2*less, work*3/2, "%d rows at once", most)
			}
		})
	}
}

// TestWorkspacesShrink: after a long call and many short ones, and after many calls at a
// time and then one at a time, memory is back to what the calls need.
func TestWorkspacesShrink(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 64), randomPassage(75, 90)
	step := func() {
		s := cache.NewSequence()
		draft(t, head, x.batch(s, 0, 2), 1)
		require.NoError(t, s.Close())
	}
	step()
	small := head.Memory().Workspaces
	long := cache.NewSequence()
	draft(t, head, x.batch(long, 0, 90), 1)
	require.Greater(t, head.Memory().Workspaces, 4*small)
	for range 130 {
		step()
	}
	require.LessOrEqual(t, head.Memory().Workspaces, 2*small)
}
