package mtp_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
)

// TestOnePagerPerCache: pages that an engine handed out are unknown to a
// Sequence, and the other way round.
func TestOnePagerPerCache(t *testing.T) {
	const n = 5
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x := randomPassage(7, n)
	for _, engineFirst := range []bool{false, true} {
		cache := newCache(t, head, 8)
		seq := cache.NewSequence()
		engine := x.batch(nil, 0, n)
		engine.Sequences[0].BlockTable, engine.Cache = []int32{0, 1, 2, 3, 4, 5, 6, 7}, cache
		first, second := x.batch(seq, 0, n), engine
		if engineFirst {
			first, second = second, first
		}
		want := forward(t, head, first, 0)
		_, err := head.Forward(context.Background(), second, 0)
		require.ErrorIs(t, err, mtp.ErrInput)
		require.ErrorContains(t, err, "Sequences or BlockTables, not both")
		if engineFirst {
			require.Equal(t, cache.Pages(), cache.FreePages(), "nothing was taken")
			require.Zero(t, seq.Len())
			require.Equal(t, want, forward(t, head, engine, 0))
		}
	}
}
