package mtp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// TestNoMap: with NoMap nothing of a checkpoint is mapped while the head is open.
func TestNoMap(t *testing.T) {
	dir, _ := brokenCases(t)
	head, err := mtp.Load(t.Context(), dir+"/ok-control", mtp.Options{NoMap: true})
	require.NoError(t, err)
	require.Zero(t, mappedBelow(t, dir))
	require.NoError(t, head.Close())
}
