package mtp_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/mtp"
)

// room is how many of k tokens Draft's documentation promises after rows that end at end,
// where positions up to limit can be written.
func room(c chainCase, end, limit, k int) int {
	if c.shifts() {
		return k
	}
	return min(k, limit-end+1)
}

// TestDraftShortensChains: a cache gives a chain the pages that it has, down to none, and
// the drafts are the first of those with room. Rows that are confirmed need their pages.
func TestDraftShortensChains(t *testing.T) {
	const rows = 7
	x := randomPassage(40, rows)
	for _, c := range []chainCase{chainCases[0], chainCases[5], chainCases[7]} {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			most := 4
			if c.chain == mtp.ChainFirst || c.modules == 1 {
				most = 12
			}
			want := draft(t, head, x.batch(newCache(t, head, 8).NewSequence(), 0, rows), most)
			require.Len(t, want.ids()[0], most)
			for pages := range 6 {
				if pages == 0 {
					continue
				}
				cache := newCache(t, head, pages)
				for k := range most + 1 {
					s := cache.NewSequence()
					drafts, err := draftOf(t.Context(), head, x.batch(s, 0, rows), k)
					if pages*blockSize < rows {
						require.ErrorIs(t, err, attention.ErrCacheFull, "k %d", k)
						require.ErrorContains(t, err, fmt.Sprintf("Sequences[0]: cache is full: %d pages needed", (rows+blockSize-1)/blockSize))
						require.Zero(t, s.Len())
						continue
					}
					require.NoError(t, err)
					n := room(c, rows, pages*blockSize, k)
					require.Len(t, drafts[0].Tokens, n, "%d pages, k %d", pages, k)
					require.Equal(t, want.ids()[0][:n], append([]int32{}, drafts[0].Tokens...))
					require.Equal(t, want.probs()[0][:n], append([]float32{}, drafts[0].Probs...))
					require.Equal(t, rows, s.Len())
					require.NoError(t, s.Close())
					require.Equal(t, pages, cache.FreePages())
				}
			}
		})
	}
}

// TestDraftSharesPages: of two sequences the first gets the pages that are left; the other
// has a shorter chain, and neither refuses the batch.
func TestDraftSharesPages(t *testing.T) {
	const k = 6
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x, y := randomPassage(44, blockSize), randomPassage(45, blockSize)
	roomy := newCache(t, head, 8)
	want := draft(t, head, join(x.batch(roomy.NewSequence(), 0, blockSize), y.batch(roomy.NewSequence(), 0, blockSize)), k)
	cache := newCache(t, head, 3)
	a, b := cache.NewSequence(), cache.NewSequence()
	got := draft(t, head, join(x.batch(a, 0, blockSize), y.batch(b, 0, blockSize)), k)
	require.Equal(t, want.ids()[0][:min(k, blockSize+1)], got.ids()[0])
	require.Equal(t, want.ids()[1][:1], got.ids()[1], "the first draft needs no row")
	require.Equal(t, []int{blockSize, blockSize, 1}, []int{a.Len(), b.Len(), cache.FreePages()})
}

// TestDraftsPerSequence: each sequence has its own length, and drafts what it drafts alone.
func TestDraftsPerSequence(t *testing.T) {
	const n = 9
	lengths := []int{3, 0, 1, 4, 0}
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 64)
			var sequences []*mtp.Sequence
			for range lengths {
				sequences = append(sequences, cache.NewSequence())
			}
			for round := range 2 {
				batch := new(mtp.Batch)
				var want [][]int32
				for i, k := range lengths {
					x := randomPassage(uint64(300+i), 2*n)
					alone := cache.NewSequence()
					if round > 0 {
						draft(t, head, x.batch(alone, 0, n), k)
					}
					one := withDrafts(x.batch(sequences[i], round*n, (round+1)*n), k)
					want = append(want, draft(t, head, x.batch(alone, round*n, (round+1)*n), k).ids()[0])
					batch = join(batch, one)
					require.NoError(t, alone.Close())
				}
				drafts, err := head.Draft(t.Context(), batch)
				require.NoError(t, err)
				for i, d := range drafts {
					require.Equal(t, want[i], d.Tokens, "round %d, sequence %d", round, i)
					require.Len(t, d.Tokens, lengths[i])
					require.Equal(t, (round+1)*n, sequences[i].Len())
				}
			}
		})
	}
}

// TestDraftToTheLastPosition: a chain may come to the last position and no further, in a
// batch that goes on. Confirmed rows past it are an error.
func TestDraftToTheLastPosition(t *testing.T) {
	const at = maxTokens - 3
	x := randomPassage(41, maxTokens+1)
	for _, c := range []chainCase{chainCases[0], chainCases[5], chainCases[7]} {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache := newCache(t, head, 2*maxTokens/blockSize)
			for rows := 1; rows <= 4; rows++ {
				long, short := cache.NewSequence(), cache.NewSequence()
				draft(t, head, x.batch(long, 0, at), 0)
				drafts, err := draftOf(t.Context(), head, join(x.batch(short, 0, 2), x.batch(long, at, at+rows)), 4)
				if at+rows > maxTokens {
					require.ErrorIs(t, err, attention.ErrPosition)
					require.EqualError(t, err, "mtp: Sequences[1].Position is 93, of 4 rows, want rows at positions up to 95: position out of range")
					require.Equal(t, []int{0, at}, []int{short.Len(), long.Len()})
				} else {
					require.NoError(t, err)
					require.Len(t, drafts[0].Tokens, 4)
					require.Len(t, drafts[1].Tokens, room(c, at+rows, maxTokens, 4))
				}
				require.NoError(t, long.Close())
				require.NoError(t, short.Close())
			}
		})
	}
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache := newCache(t, head, maxTokens/blockSize)
	b := x.batch(nil, at, at+1)
	b.Cache = cache
	for page := range int32(maxTokens / blockSize) {
		b.Sequences[0].BlockTable = append(b.Sequences[0].BlockTable, page)
	}
	require.Len(t, draft(t, head, b, 5).ids()[0], 3)
	b.Sequences[0].Position = math.MaxInt
	_, err := head.Forward(t.Context(), b, 0)
	require.ErrorIs(t, err, attention.ErrPosition)
}

// TestDraftEndsWithTheBlockTable: a table without pages for the chain, or that is padded
// after those it has, makes the chain shorter.
func TestDraftEndsWithTheBlockTable(t *testing.T) {
	const rows, k = 3, 8
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x := randomPassage(46, rows)
	run := func(table ...int32) []int32 {
		b := x.batch(nil, 0, rows)
		b.Sequences[0].BlockTable, b.Cache = table, newCache(t, head, 4)
		return draft(t, head, b, k).ids()[0]
	}
	want := run(2, 1, 3)
	require.Len(t, want, k)
	fits := blockSize - rows + 1
	for _, table := range [][]int32{{2}, {2, -1}, {2, 2}, {2, 4, 1}} {
		require.Equal(t, want[:fits], run(table...), "%v", table)
	}
}

// TestAlignedClaimsWhatItWrites: the last step of an aligned chain begins Steps−1 rows
// before Position, and a page before that stays the fork's.
func TestAlignedClaimsWhatItWrites(t *testing.T) {
	const steps = 2
	n := blockSize + steps - 1 // the last step begins with the second page
	head := load(t, synthetic{modules: steps}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 3), randomPassage(47, n+1)
	s := cache.NewSequence()
	draft(t, head, x.batch(s, 0, n), 1)
	fork, err := s.Fork()
	require.NoError(t, err)
	require.Equal(t, 1, cache.FreePages())
	want := draft(t, head, x.batch(fork, n, n+1), 1)
	a, b := s.BlockTable(), fork.BlockTable()
	require.Equal(t, a[0], b[0], "shared still")
	require.NotEqual(t, a[1], b[1])
	require.NoError(t, fork.Close())
	require.Equal(t, want, draft(t, head, x.batch(s, n, n+1), 1))
}
