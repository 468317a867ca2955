package mtp

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
)

// TestOfAttention: each of several errors is told as this package's.
func TestOfAttention(t *testing.T) {
	_, err := attention.NewCache(hip.NewReference(), attention.Geometry{
		Heads: 1, KVHeads: 1, HeadDim: 2, IndexDim: 2, BlockSize: 4, TopkBlocks: 1, Rope: attention.Rope{Positions: 64},
	}, 0, 0, attention.CacheF32)
	require.EqualError(t, ofAttention("mtp: new cache", err), "mtp: new cache: layers is 0, want 1 to 2^20\nmtp: new cache: pages is 0, want 1 to 536870911")
	other := errors.New("other")
	err = ofAttention("mtp", errors.Join(&InputError{Op: "attention: begin", Field: "From", Got: -1, Want: "at least 0", Err: attention.ErrClosed}, other))
	require.EqualError(t, err, "mtp: From is -1, want at least 0: "+attention.ErrClosed.Error()+"\nmtp: other")
	for _, want := range []error{ErrInput, ErrClosed, attention.ErrClosed, other} {
		require.ErrorIs(t, err, want)
	}
	require.NoError(t, ofAttention("mtp", nil))
}
