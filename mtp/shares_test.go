package mtp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/moe"
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
		err := test.shard.check("Tensor")
		if test.ok {
			require.NoError(t, err)
			require.Equal(t, test.whole, test.shard.whole())
			continue
		}
		require.ErrorIs(t, err, ErrInput)
		require.ErrorContains(t, err, fmt.Sprintf("rank %d of %d", test.shard.Rank, test.shard.Size))
	}
}

func TestShardCuts(t *testing.T) {
	even := func(s Shard, n int) (interval, string) { return s.even(n) }
	replicated := func(s Shard, n int) (interval, string) { return s.replicated(n) }
	vocabulary := func(s Shard, n int) (interval, string) { return s.vocabulary(n) }
	uneven := func(s Shard, n int) (interval, string) { return s.uneven(n), "" }
	tests := []struct {
		name  string
		cut   func(Shard, int) (interval, string)
		shard Shard
		n     int
		want  interval
		size  string // what it would have to be
	}{
		{"even, all", even, Shard{}, 7, interval{0, 7}, ""},
		{"even, one rank", even, Shard{0, 1}, 7, interval{0, 7}, ""},
		{"even, heads of the released model", even, Shard{5, 8}, 64, interval{40, 48}, ""},
		{"even, remainder", even, Shard{0, 3}, 64, interval{}, "a divisor of"},
		{"even, more ranks than parts", even, Shard{0, 8}, 4, interval{}, "a divisor of"},
		{"replicated, all", replicated, Shard{}, 4, interval{0, 4}, ""},
		{"replicated, few ranks", replicated, Shard{1, 2}, 4, interval{2, 4}, ""},
		{"replicated, as many ranks", replicated, Shard{3, 4}, 4, interval{3, 4}, ""},
		{"replicated, twice", replicated, Shard{5, 8}, 4, interval{2, 3}, ""},
		{"replicated, four times", replicated, Shard{15, 16}, 4, interval{3, 4}, ""},
		{"replicated, remainder of few ranks", replicated, Shard{0, 3}, 4, interval{}, "a divisor of"},
		{"replicated, remainder of many ranks", replicated, Shard{0, 6}, 4, interval{}, "a multiple of"},
		{"replicated, of nothing", replicated, Shard{0, 2}, 0, interval{}, "a multiple of"},
		{"uneven, all", uneven, Shard{}, 128, interval{0, 128}, ""},
		{"uneven, first of three", uneven, Shard{0, 3}, 128, interval{0, 43}, ""},
		{"uneven, second of three", uneven, Shard{1, 3}, 128, interval{43, 86}, ""},
		{"uneven, last of three", uneven, Shard{2, 3}, 128, interval{86, 128}, ""},
		{"uneven, more ranks than parts", uneven, Shard{3, 4}, 2, interval{2, 2}, ""},
		{"vocabulary, all", vocabulary, Shard{}, 100, interval{0, 100}, ""},
		{"vocabulary of the released model", vocabulary, Shard{7, 8}, 200064, interval{175056, 200064}, ""},
		{"vocabulary, padded to 128", vocabulary, Shard{1, 2}, 100, interval{64, 100}, ""},
		{"vocabulary, a rank of padding only", vocabulary, Shard{3, 4}, 65, interval{65, 65}, ""},
		{"vocabulary, remainder", vocabulary, Shard{0, 3}, 64, interval{}, "a divisor of"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, size := test.cut(test.shard, test.n)
			require.Equal(t, test.size, size)
			if size == "" {
				require.Equal(t, test.want, got)
			}
		})
	}
}

// TestShardsCover: whatever can be cut is held by the stated number of ranks,
// in the order of the ranks, and what cannot is refused on every rank alike.
func TestShardsCover(t *testing.T) {
	cuts := []struct {
		name string
		cut  func(Shard, int) (interval, string)
		cuts func(size, n int) bool // whether n can be cut
		held func(size, n int) int  // by how many ranks
	}{
		{"even", Shard.even, func(size, n int) bool { return n%size == 0 }, func(int, int) int { return 1 }},
		{"replicated", Shard.replicated, func(size, n int) bool { return size == 1 || n%size == 0 && n > 0 || n > 0 && size%n == 0 },
			func(size, n int) int { return max(1, size/max(n, 1)) }},
		{"uneven", func(s Shard, n int) (interval, string) { return s.uneven(n), "" }, func(int, int) bool { return true }, func(int, int) int { return 1 }},
		{"vocabulary", Shard.vocabulary, func(size, n int) bool { return size == 1 || (n+63)/64*64%size == 0 }, func(int, int) int { return 1 }},
	}
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= 17; size++ {
				for n := range 200 {
					held, at := make([]int, n), 0
					for rank := range size {
						r, want := c.cut(Shard{rank, size}, n)
						require.Equal(t, c.cuts(size, n), want == "", "%d over %d ranks: %v", n, size, want)
						if want != "" {
							continue
						}
						require.True(t, 0 <= r[0] && r[0] <= r[1] && r[1] <= n, "rank %d of %d holds %v of %d", rank, size, r, n)
						require.LessOrEqual(t, at, r[0])
						at = r[0]
						for i := r[0]; i < r[1]; i++ {
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

// TestGroupHoldsAll: over the ranks of a group every element of every tensor is held, once
// or by every rank that needs it.
func TestGroupHoldsAll(t *testing.T) {
	config := &Config{HiddenSize: 64, VocabSize: 200, NumMTPModules: 1}
	config.Attention = attention.Geometry{Heads: 8, KVHeads: 2, HeadDim: 16, IndexDim: 8}
	config.MoE = moe.Config{Hidden: 64, Intermediate: 64, SharedIntermediate: 128, Experts: 6, TopK: 2}
	for _, c := range []struct {
		tp, ep int
		dealt  bool
	}{{2, 1, false}, {4, 1, false}, {8, 1, false}, {1, 2, false}, {1, 4, false}, {2, 2, false}, {2, 3, false}, {2, 2, true}, {4, 4, true}} {
		ranks := c.tp * c.ep
		if c.dealt {
			ranks = c.tp
		}
		held := make(map[string]map[[2]int]int) // by tensor and element: how many ranks
		for rank := range ranks {
			p := parallel{tensor: Shard{rank % c.tp, c.tp}, expert: Shard{rank / c.tp, c.ep}, group: Shard{rank, ranks}, grid: !c.dealt}
			if c.dealt {
				p.expert.Rank = rank
			}
			params, err := config.parameters(p, func(int) bool { return true })
			require.NoError(t, err)
			for _, param := range params {
				for _, part := range param.Parts {
					if len(part.Shape) != 2 {
						continue
					}
					if held[part.Tensor] == nil {
						held[part.Tensor] = make(map[[2]int]int)
					}
					for row := part.KeepRows[0]; row < part.KeepRows[1]; row++ {
						for col := part.KeepCols[0]; col < part.KeepCols[1]; col++ {
							held[part.Tensor][[2]int{row, col}]++
						}
					}
				}
			}
		}
		for tensor, elements := range held {
			want, shape := ranks, [2]int{}
			name := tensor[strings.LastIndex(tensor[:len(tensor)-len(".weight")], ".")+1:]
			switch copies := ranks / c.tp; {
			case tensor == embedTokens:
				shape = [2]int{200, 64}
			case tensor == lmHead:
				want, shape = 1, [2]int{200, 64}
			case name == "q_proj.weight":
				want, shape = copies, [2]int{128, 64}
			case name == "o_proj.weight":
				want, shape = copies, [2]int{64, 128}
			case name == "k_proj.weight" || name == "v_proj.weight":
				want, shape = copies*max(1, c.tp/2), [2]int{32, 64}
			case name == "index_q_proj.weight":
				want, shape = copies*max(1, c.tp/2), [2]int{16, 64}
			case name == "index_k_proj.weight":
				shape = [2]int{8, 64}
			case name == "eh_proj.weight":
				shape = [2]int{64, 128}
			case name == "gate.weight":
				shape = [2]int{6, 64}
			case name == "w1.weight" || name == "w3.weight":
				want, shape = 1, [2]int{64, 64}
			case name == "w2.weight":
				want, shape = 1, [2]int{64, 64}
			case name == "gate_proj.weight" || name == "up_proj.weight":
				want, shape = copies, [2]int{128, 64}
			case name == "down_proj.weight":
				want, shape = copies, [2]int{64, 128}
			default:
				t.Fatalf("%s: which ranks hold it?", tensor)
			}
			require.Len(t, elements, shape[0]*shape[1], "%s over tp %d, ep %d", tensor, c.tp, c.ep)
			for at, n := range elements {
				require.Equal(t, want, n, "%s %v over tp %d, ep %d", tensor, at, c.tp, c.ep)
			}
		}
	}
}

// TestBlocksOfRanks: parts are whole blocks, as equal as they can be, each held once; equal
// parts where ranks are more than blocks.
func TestBlocksOfRanks(t *testing.T) {
	for n := 1; n <= 200; n++ {
		for size := 1; size <= 9; size++ {
			for _, block := range []int{0, 32} {
				at, shortest, longest := 0, n, 0
				for rank := range size {
					part, want := Shard{rank, size}.blocks(n, block)
					even, evenWant := Shard{rank, size}.even(n)
					if block == 0 || size == 1 || (n+block-1)/block < size {
						require.Equal(t, even, part)
						require.Equal(t, evenWant, want)
						at = n
						continue
					}
					require.Empty(t, want)
					require.Equal(t, at, part[0])
					require.Zero(t, part[0]%block)
					shortest, longest, at = min(shortest, part.Len()), max(longest, part.Len()), part[1]
				}
				require.Equal(t, n, at)
				require.LessOrEqual(t, longest-shortest, 2*block-1, "a block more, and the last may be short")
			}
		}
	}
}
