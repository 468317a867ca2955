package speculate

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// TestShare: a text that begins with the rows of another, at any place, is what it is alone,
// and so is the other.
func TestShare(t *testing.T) {
	for _, chain := range []mtp.Chain{mtp.ChainFirst, mtp.ChainAligned} {
		t.Run(string(chain), func(t *testing.T) { checkShare(t, openChain(t, hip.NewHost(), 64, chain), chain) })
	}
}

func checkShare(t *testing.T, e *Engine, chain mtp.Chain) {
	p := prompts(t, 4)
	base := slices.Concat(p[0], p[1])
	for _, common := range []int{1, 2, 20, len(base) - 1, len(base), len(base) + 5} {
		from := &Text{Tokens: slices.Clone(base), Most: len(base) + 40, Drafts: 4}
		for range 4 {
			require.NoError(t, e.Step(t.Context(), []*Text{from}))
		}
		require.Greater(t, len(from.Tokens), len(base)+2)
		prompt := slices.Concat(from.Tokens[:min(common, len(from.Tokens))], p[2][:5])
		alone := &Text{Tokens: slices.Clone(prompt), Most: len(prompt) + 12, Drafts: 3}
		want := complete(t, e, alone)
		shares := &Text{Tokens: slices.Clone(prompt), Most: len(prompt) + 12, Drafts: 3}
		rows, err := e.Share(shares, from)
		require.NoError(t, err)
		require.Equal(t, rows, shares.Ran())
		require.LessOrEqual(t, rows, shares.Common(from)-1)
		most, again := min(shares.Common(from)-1, from.Ran()), 0
		if chain == mtp.ChainAligned {
			again = 7 // rows that a chain of 8 steps runs again
		}
		require.GreaterOrEqual(t, rows, max(0, most-again))
		require.LessOrEqual(t, rows, most)
		more, err := e.Share(shares, from)
		require.NoError(t, err)
		require.True(t, most == 0 || more == 0, "it has begun")
		require.Equal(t, want, complete(t, e, shares, from), "%d in common", common)

		other := &Text{Tokens: slices.Clone(base), Most: len(base) + 40}
		rows, err = e.Share(other, from)
		require.NoError(t, err)
		require.Zero(t, rows, "its head would have no rows")
		require.NoError(t, e.Release(shares))
		require.Equal(t, complete(t, e, other), from.Tokens[len(base):])
		for _, text := range []*Text{alone, from, other} {
			require.NoError(t, e.Release(text))
		}
		require.Equal(t, e.Target.Cache.Pages(), e.Target.Cache.FreePages())
		require.Equal(t, e.Cache.Pages(), e.Cache.FreePages())
	}
}

// complete completes texts and returns what the first wrote.
func complete(t *testing.T, e *Engine, texts ...*Text) []int32 {
	t.Helper()
	from := len(texts[0].Tokens)
	for slices.ContainsFunc(texts, func(t *Text) bool { return !t.Done() }) {
		require.NoError(t, e.Step(t.Context(), texts))
	}
	return texts[0].Tokens[from:]
}
