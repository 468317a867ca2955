package weights

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

func TestShardCheck(t *testing.T) {
	tests := []struct {
		shard     Shard
		ok, whole bool
	}{
		{Shard{}, true, true},
		{Shard{0, 1}, true, true},
		{Shard{0, 2}, true, false},
		{Shard{7, 8}, true, false},
		{Shard{8, 8}, false, false},
		{Shard{-1, 8}, false, false},
		{Shard{1, 1}, false, true},
		{Shard{1, 0}, false, true},
		{Shard{0, -1}, false, true},
	}
	for _, test := range tests {
		err := test.shard.Check()
		if test.ok {
			require.NoError(t, err)
			require.Equal(t, test.whole, test.shard.Whole())
			continue
		}
		require.ErrorIs(t, err, hip.ErrInput)
		require.ErrorContains(t, err, fmt.Sprintf("rank %d of %d", test.shard.Rank, test.shard.Size))
	}
}

func TestShardCuts(t *testing.T) {
	even := func(s Shard, n int) (Range, error) { return s.Even(n) }
	replicated := func(s Shard, n int) (Range, error) { return s.Replicated(n) }
	vocabulary := func(s Shard, n int) (Range, error) { return s.Vocabulary(n) }
	uneven := func(s Shard, n int) (Range, error) { return s.Uneven(n), nil }
	tests := []struct {
		name  string
		cut   func(Shard, int) (Range, error)
		shard Shard
		n     int
		want  Range
		err   error
	}{
		{"even, all", even, Shard{}, 7, Range{0, 7}, nil},
		{"even, one rank", even, Shard{0, 1}, 7, Range{0, 7}, nil},
		{"even, heads of the released model", even, Shard{5, 8}, 64, Range{40, 48}, nil},
		{"even, remainder", even, Shard{0, 3}, 64, Range{}, hip.ErrInput},
		{"even, more ranks than parts", even, Shard{0, 8}, 4, Range{}, hip.ErrInput},
		{"replicated, all", replicated, Shard{}, 4, Range{0, 4}, nil},
		{"replicated, few ranks", replicated, Shard{1, 2}, 4, Range{2, 4}, nil},
		{"replicated, as many ranks", replicated, Shard{3, 4}, 4, Range{3, 4}, nil},
		{"replicated, twice", replicated, Shard{5, 8}, 4, Range{2, 3}, nil},
		{"replicated, four times", replicated, Shard{15, 16}, 4, Range{3, 4}, nil},
		{"replicated, remainder of few ranks", replicated, Shard{0, 3}, 4, Range{}, hip.ErrInput},
		{"replicated, remainder of many ranks", replicated, Shard{0, 6}, 4, Range{}, hip.ErrInput},
		{"replicated, of nothing", replicated, Shard{0, 2}, 0, Range{}, hip.ErrInput},
		{"uneven, all", uneven, Shard{}, 128, Range{0, 128}, nil},
		{"uneven, first of three", uneven, Shard{0, 3}, 128, Range{0, 43}, nil},
		{"uneven, second of three", uneven, Shard{1, 3}, 128, Range{43, 86}, nil},
		{"uneven, last of three", uneven, Shard{2, 3}, 128, Range{86, 128}, nil},
		{"uneven, more ranks than parts", uneven, Shard{3, 4}, 2, Range{2, 2}, nil},
		{"vocabulary, all", vocabulary, Shard{}, 100, Range{0, 100}, nil},
		{"vocabulary of the released model", vocabulary, Shard{7, 8}, 200064, Range{175056, 200064}, nil},
		{"vocabulary, padded to 128", vocabulary, Shard{1, 2}, 100, Range{64, 100}, nil},
		{"vocabulary, a rank of padding only", vocabulary, Shard{3, 4}, 65, Range{65, 65}, nil},
		{"vocabulary, remainder", vocabulary, Shard{0, 3}, 64, Range{}, hip.ErrInput},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.cut(test.shard, test.n)
			require.ErrorIs(t, err, test.err)
			if test.err == nil {
				require.Equal(t, test.want, got)
			} else {
				require.ErrorContains(t, err, fmt.Sprint(test.n))
			}
		})
	}
}

// TestShardsCover: whatever can be cut is held by the stated number of ranks,
// in the order of the ranks, and what cannot is refused on every rank alike.
func TestShardsCover(t *testing.T) {
	cuts := []struct {
		name string
		cut  func(Shard, int) (Range, error)
		cuts func(size, n int) bool // whether n can be cut
		held func(size, n int) int  // by how many ranks
	}{
		{"even", Shard.Even, func(size, n int) bool { return n%size == 0 }, func(int, int) int { return 1 }},
		{"replicated", Shard.Replicated, func(size, n int) bool { return size == 1 || n%size == 0 && n > 0 || n > 0 && size%n == 0 },
			func(size, n int) int { return max(1, size/max(n, 1)) }},
		{"uneven", func(s Shard, n int) (Range, error) { return s.Uneven(n), nil }, func(int, int) bool { return true }, func(int, int) int { return 1 }},
		{"vocabulary", Shard.Vocabulary, func(size, n int) bool { return size == 1 || (n+63)/64*64%size == 0 }, func(int, int) int { return 1 }},
	}
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= 17; size++ {
				for n := range 200 {
					held, at := make([]int, n), 0
					for rank := range size {
						r, err := c.cut(Shard{rank, size}, n)
						require.Equal(t, c.cuts(size, n), err == nil, "%d over %d ranks: %v", n, size, err)
						if err != nil {
							require.ErrorIs(t, err, hip.ErrInput)
							continue
						}
						require.True(t, r.within(n), "rank %d of %d holds %v of %d", rank, size, r, n)
						require.LessOrEqual(t, at, r.First)
						at = r.First
						for i := r.First; i < r.End; i++ {
							held[i]++
						}
					}
					for i, ranks := range held {
						if c.cuts(size, n) {
							require.Equal(t, c.held(size, n), ranks, "element %d of %d over %d ranks", i, n, size)
						}
					}
				}
			}
		})
	}
}

func TestRange(t *testing.T) {
	r := Range{3, 5}
	require.Equal(t, 2, r.Len())
	for _, test := range []struct {
		r      Range
		within bool
	}{
		{Range{0, 0}, true}, {Range{0, 5}, true}, {Range{5, 5}, true}, {Range{2, 4}, true},
		{Range{0, 6}, false}, {Range{-1, 2}, false}, {Range{4, 3}, false}, {Range{6, 6}, false},
	} {
		require.Equal(t, test.within, test.r.within(5), "%v", test.r)
	}
}
