package reference

import (
	"strings"
	"testing"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

var rules = []mtp.Chain{mtp.ChainFirst, chainPostNorm, mtp.ChainModOwn, chainModPrefilled, chainModEveryRow, mtp.ChainAligned, mtp.ChainTarget}

// The first draft is the same under every rule: module 0 over the prompt.
func TestChainFirstDraft(t *testing.T) {
	head := syntheticHead(t, "")
	tokens, positions, hidden := syntheticRows(9)
	tokens = append(tokens, 7)
	s, err := head.Forward(0, tokens[1:], positions, hidden)
	require.NoError(t, err)
	id := argmax(row(s["logits"], 8))
	for _, rule := range rules {
		drafts, err := head.Chain(tokens, hidden, 1, rule)
		require.NoError(t, err)
		require.Equal(t, []int{id}, drafts.IDs, "%s", rule)
		require.Equal(t, []int{0}, drafts.modules)
		requireEqual(t, gather(s["hidden"], []int{8}), drafts.Hidden)
	}
}

// A longer chain begins with the shorter one, and the rules differ where they should.
func TestChainRules(t *testing.T) {
	head := syntheticHead(t, "")
	tokens, _, hidden := syntheticRows(9)
	tokens = append(tokens, 7)
	seen := map[mtp.Chain]mat.Matrix{}
	for _, rule := range rules {
		drafts, err := head.Chain(tokens, hidden, 4, rule)
		require.NoError(t, err)
		short, err := head.Chain(tokens, hidden, 3, rule)
		require.NoError(t, err)
		require.Equal(t, drafts.IDs[:3], short.IDs, "%s", rule)
		modules := []int{0, 1, 0, 1}
		if rule == mtp.ChainFirst || rule == chainPostNorm {
			modules = []int{0, 0, 0, 0}
		}
		require.Equal(t, modules, drafts.modules, "%s", rule)
		require.Equal(t, []int{4, 16}, drafts.Logits.Shape())
		for other, hidden := range seen {
			require.NotEqual(t, mat.Data[float64](hidden), mat.Data[float64](drafts.Hidden), "%s and %s", rule, other)
		}
		seen[rule] = drafts.Hidden
	}
}

func TestInputErrors(t *testing.T) {
	head := syntheticHead(t, "")
	tokens, positions, hidden := syntheticRows(3)
	forward := func(module int, tokens, positions []int, hidden mat.Matrix, rows ...int) func() error {
		return func() error {
			_, err := head.Forward(module, tokens, positions, hidden, rows...)
			return err
		}
	}
	chain := func(tokens []int, hidden mat.Matrix, k int, rule mtp.Chain) func() error {
		return func() error {
			_, err := head.Chain(tokens, hidden, k, rule)
			return err
		}
	}
	var none *mat.Dense[float64]
	prompt := append([]int{1}, tokens...)
	tests := []struct {
		name string
		call func() error
	}{
		{"module negative", forward(-1, tokens, positions, hidden, 0)},
		{"module beyond", forward(2, tokens, positions, hidden, 0)},
		{"too few tokens", forward(0, tokens[:2], positions, hidden, 0)},
		{"too few positions", forward(0, tokens, positions[:2], hidden, 0)},
		{"no hidden", forward(0, tokens, positions, nil, 0)},
		{"nil hidden", forward(0, tokens, positions, none, 0)},
		{"narrow hidden", forward(0, tokens, positions, zeros(3, 7), 0)},
		{"empty", forward(0, nil, nil, zeros(0, 8))},
		{"token negative", forward(0, []int{1, -1, 1}, positions, hidden, 0)},
		{"token beyond", forward(0, []int{1, 16, 1}, positions, hidden, 0)},
		{"position negative", forward(0, tokens, []int{-1, 0, 1}, hidden, 0)},
		{"position twice", forward(0, tokens, []int{0, 1, 1}, hidden, 0)},
		{"position not covered", forward(0, tokens, []int{0, 1, 64}, hidden, 0)},
		{"row beyond", forward(0, tokens, positions, hidden, 3)},
		{"row twice", forward(0, tokens, positions, hidden, 1, 1)},
		{"chain without the sampled token", chain(tokens, hidden, 1, mtp.ChainFirst)},
		{"chain with a token beyond", chain([]int{16, 1, 1, 1}, hidden, 1, mtp.ChainFirst)},
		{"chain without hidden", chain(prompt, nil, 1, mtp.ChainFirst)},
		{"chain of none", chain(prompt, hidden, 0, mtp.ChainFirst)},
		{"chain of an unknown rule", chain(prompt, hidden, 1, "chain_other")},
		{"chain beyond the covered positions", chain(prompt, hidden, 63, mtp.ChainFirst)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := test.call()
			require.ErrorIs(t, err, hip.ErrInput)
			require.True(t, strings.HasPrefix(err.Error(), "reference: "), "%v", err)
		})
	}
}
