package mtp_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
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

// TestRefusedCallsClaimNothing: who hands out a cache's pages is settled by what succeeds
// alone.
func TestRefusedCallsClaimNothing(t *testing.T) {
	const n = 5
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x := randomPassage(8, n+8)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	engine := func(cache *mtp.Cache, table ...int32) *mtp.Batch {
		b := x.batch(nil, 0, n)
		b.Sequences[0].BlockTable, b.Cache = table, cache
		return b
	}
	draft := func(ctx context.Context, b *mtp.Batch, k int) error {
		_, err := draftOf(ctx, head, b, k)
		return err
	}
	for name, refused := range map[string]func(c *mtp.Cache) error{
		"short table":     func(c *mtp.Cache) error { return draft(t.Context(), engine(c, 0), 2) },
		"page outside":    func(c *mtp.Cache) error { return draft(t.Context(), engine(c, 0, 9), 2) },
		"too many drafts": func(c *mtp.Cache) error { return draft(t.Context(), engine(c, 0, 1), 65) },
		"bad output": func(c *mtp.Cache) error {
			b := engine(c, 0, 1)
			b.Output = 64
			return second(head.Forward(t.Context(), b, 0))
		},
		"canceled": func(c *mtp.Cache) error { return draft(canceled, engine(c, 0, 1), 2) },
	} {
		t.Run(name, func(t *testing.T) {
			cache := newCache(t, head, 2)
			require.Error(t, refused(cache))
			require.NoError(t, draft(t.Context(), x.batch(cache.NewSequence(), 0, n), 1))
			require.ErrorIs(t, draft(t.Context(), engine(cache, 0, 1), 1), mtp.ErrInput, "settled by what succeeded")
		})
	}
	t.Run("full cache", func(t *testing.T) {
		cache := newCache(t, head, 2)
		require.ErrorIs(t, draft(t.Context(), x.batch(cache.NewSequence(), 0, n+8), 1), attention.ErrCacheFull)
		require.ErrorIs(t, cache.NewSequence().Reserve(9), attention.ErrCacheFull)
		require.NoError(t, draft(t.Context(), engine(cache, 0, 1), 1))
		require.ErrorIs(t, cache.NewSequence().Reserve(1), mtp.ErrInput, "pages are the engine's")
		require.Equal(t, cache.Pages(), cache.FreePages())
	})
	t.Run("Reserve", func(t *testing.T) {
		cache := newCache(t, head, 2)
		require.NoError(t, cache.NewSequence().Reserve(1))
		require.ErrorIs(t, draft(t.Context(), engine(cache, 0, 1), 1), mtp.ErrInput, "pages are the Sequences'")
	})
}

// TestOnePagerOfTwoAtOnce: of two first calls at the same time, one for each kind, one is
// refused.
func TestOnePagerOfTwoAtOnce(t *testing.T) {
	const n = 5
	head := load(t, synthetic{}.files(t), mtp.Options{})
	x := randomPassage(10, n)
	for range 20 {
		cache := newCache(t, head, 2)
		table := x.batch(nil, 0, n)
		table.Sequences[0].BlockTable, table.Cache = []int32{0, 1}, cache
		var errs [2]error
		var group sync.WaitGroup
		for i, b := range []*mtp.Batch{table, x.batch(cache.NewSequence(), 0, n)} {
			group.Go(func() { _, errs[i] = head.Forward(t.Context(), b, 0) })
		}
		group.Wait()
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "%v", errs)
		require.ErrorIs(t, errors.Join(errs[:]...), mtp.ErrInput)
	}
}

// TestRefusedCallsLeaveReservedPages: what was taken ahead of a call is still there after
// one that the cache had no room for.
func TestRefusedCallsLeaveReservedPages(t *testing.T) {
	const n = 5
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 6), randomPassage(9, 20)
	s := cache.NewSequence()
	require.NoError(t, s.Reserve(3*blockSize))
	table := s.BlockTable()
	both := join(x.batch(s, 0, n), x.batch(cache.NewSequence(), 0, 15))
	_, err := head.Forward(t.Context(), both, 0)
	require.ErrorIs(t, err, attention.ErrCacheFull)
	_, err = draftOf(t.Context(), head, both, 2)
	require.ErrorIs(t, err, attention.ErrCacheFull)
	require.Equal(t, table, s.BlockTable())
	require.Equal(t, 3, cache.FreePages())
	forward(t, head, x.batch(s, 0, n), 0)
	require.Equal(t, table, s.BlockTable())
}
