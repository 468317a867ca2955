package plan

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestSplit: pieces have the step's rows in their order, no more than they may, and the
// wanted ones among them.
func TestSplit(t *testing.T) {
	type row struct {
		sequence, position int
		token              int32
		wanted             bool
	}
	rows := func(s *Step) (all []row) {
		for _, span := range s.Spans {
			for p := range span.Rows {
				all = append(all, row{sequence: span.Sequence, position: span.From + p, wanted: s.Wanted == nil})
			}
		}
		for i := range all {
			all[i].token = s.Tokens[i]
		}
		for _, w := range s.Wanted {
			all[w].wanted = true
		}
		return all
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		s := &Step{Module: 1, Layer: 2}
		for i := range 1 + random.IntN(5) {
			var tokens []int32
			for range 1 + random.IntN(9) {
				tokens = append(tokens, random.Int32N(100))
			}
			s.add(i, random.IntN(10), tokens...)
			if random.IntN(2) == 0 {
				s.Picks = append(s.Picks, int32(s.Rows()-1))
			}
		}
		if random.IntN(4) > 0 {
			s.want(s.Picks)
		}
		most := 1 + random.IntN(12)
		pieces := s.Split(most)
		require.Len(t, pieces, (s.Rows()+most-1)/most)
		var got []row
		out := 0
		for _, p := range pieces {
			require.LessOrEqual(t, p.Rows(), most)
			require.Equal(t, [2]int{1, 2}, [2]int{p.Module, p.Layer})
			got = append(got, rows(p)...)
			out += p.OutRows()
			if p.Wanted != nil {
				require.Len(t, p.WantedSpans(), len(p.Wanted), "wanted rows end a span")
			}
		}
		require.Equal(t, rows(s), got)
		require.Equal(t, s.OutRows(), out)
	}
}
