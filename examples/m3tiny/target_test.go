package m3tiny

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTarget: whatever is drafted, the texts that a target confirms and chooses are the
// recorded one, with its hidden states.
func TestTarget(t *testing.T) {
	traces, err := Traces()
	require.NoError(t, err)
	text := traces[0]
	for right := range 4 { // drafts that are right in each step
		target := NewTarget()
		tokens, hidden := target.Prompt()
		require.Len(t, tokens, text.PromptLen)
		for {
			at := len(tokens)
			drafts := []int32{-1, -1, -1}
			copy(drafts[:right], text.Tokens[min(at+1, len(text.Tokens)):])
			chosen, states := target.Run(drafts)
			if len(chosen) == 0 {
				break
			}
			n := min(right+1, len(chosen))
			tokens, hidden = append(tokens[:at:at], chosen[:n]...), append(hidden[:at*text.Width:at*text.Width], states[:n*text.Width]...)
		}
		require.Equal(t, text.Tokens[1:], tokens)
		require.Equal(t, text.Hidden[:len(tokens)*text.Width], hidden)
	}
	require.Equal(t, "Go", Text('G', 'o'))
}
