package attention

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestEveryMethodBesideEveryOther, on one sequence of one cache: a call does what it does
// alone, or says that the sequence is in use or the cache closed.
func TestEveryMethodBesideEveryOther(t *testing.T) {
	const pages = 40
	d := hip.NewReference()
	defer d.Close()
	g := tiny()
	qkv, err := hip.Upload(d, make([]float32, 8*g.Columns()))
	require.NoError(t, err)
	room, err := hip.Upload(d, make([]float32, 8*g.Columns()+8*g.KVHeads*64))
	require.NoError(t, err)
	ones, err := hip.Upload(d, make([]float32, max(g.HeadDim, g.IndexDim)))
	require.NoError(t, err)
	// transact writes some rows, and runs over them, in a transaction that end ends.
	transact := func(c *Cache, s *Sequence, end func(*Transaction) error) error {
		tx, err := c.Begin(Claim{Sequence: s, From: s.Len(), To: s.Len() + 3, Spare: 2})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		tx.Spare(0)
		span, err := tx.Span(0, 0, tx.claims[0].From, 2)
		if err != nil {
			return err
		}
		b := NewBatch(c)
		err = errors.Join(
			b.Upload(span),
			Insert(b, 0, qkv, Params{ones, ones, ones, ones}),
			Select(b, room, room),
		)
		NewBatch(c, b).Blocks()
		b.On(d).Blocks()
		return errors.Join(err, b.Close(), end(tx))
	}
	methods := map[string]func(c *Cache, s *Sequence) error{
		"Commit":   func(c *Cache, s *Sequence) error { return transact(c, s, (*Transaction).Commit) },
		"Rollback": func(c *Cache, s *Sequence) error { return transact(c, s, (*Transaction).Rollback) },
		"Reserve":  func(_ *Cache, s *Sequence) error { return s.Reserve(3) },
		"Truncate": func(_ *Cache, s *Sequence) error { return s.Truncate(0) },
		"Fork": func(_ *Cache, s *Sequence) error {
			fork, err := s.Fork()
			if err != nil {
				return err
			}
			return errors.Join(fork.Reserve(1), fork.Close())
		},
		"Sequence.Close": func(_ *Cache, s *Sequence) error { return s.Close() },
		"Len":            func(_ *Cache, s *Sequence) error { s.Len(); s.BlockTable(); return nil },
		"NewSequence":    func(c *Cache, _ *Sequence) error { return c.NewSequence().Close() },
		"Pages":          func(c *Cache, _ *Sequence) error { c.Pages(); c.FreePages(); c.Bytes(); return nil },
		"Buffers":        func(c *Cache, _ *Sequence) error { _, _, err := c.Buffers(0); return err },
		"Cache.Close":    func(c *Cache, _ *Sequence) error { return c.Close() },
	}
	bytes, live := hiptest.InUse(d)
	for first, a := range methods {
		for second, b := range methods {
			if first > second {
				continue
			}
			c, err := NewCache(d, g, 1, pages, CacheBF16)
			require.NoError(t, err)
			s := c.NewSequence()
			var group sync.WaitGroup
			errs := make([]error, 2)
			for i, do := range []func(*Cache, *Sequence) error{a, b} {
				group.Go(func() {
					for range 6 {
						err := do(c, s)
						if err != nil && !errors.Is(err, errInUse) && !errors.Is(err, ErrClosed) && !errors.Is(err, hip.ErrInput) && !errors.Is(err, ErrCacheFull) {
							errs[i] = fmt.Errorf("%s beside %s: %w", first, second, err)
						}
					}
				})
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
			require.NoError(t, s.Close())
			require.Equal(t, pages, c.FreePages(), "%s beside %s", first, second)
			require.NoError(t, c.Close())
			nowBytes, nowLive := hiptest.InUse(d)
			require.Equal(t, []any{bytes, live}, []any{nowBytes, nowLive})
		}
	}
}

// TestZeroValues are input errors, or do nothing.
func TestZeroValues(t *testing.T) {
	input := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, hip.ErrInput)
	}
	for _, s := range []*Sequence{nil, {}, new(Cache).NewSequence()} {
		require.Zero(t, s.Len())
		require.Empty(t, s.BlockTable())
		input(s.Reserve(1))
		input(s.Truncate(0))
		_, err := s.Fork()
		input(err)
		require.NoError(t, s.Close())
	}
	for _, b := range []*Batch{nil, {}, NewBatch(nil), NewBatch(new(Cache)), NewBatch(new(Cache), nil), new(Batch).On(nil)} {
		input(b.Upload())
		_, err := b.Encode(nil, 1)
		input(err)
		input(Insert(b, 0, 0, Params{}))
		input(Scores(b, 0, 0, 0))
		input(Select(b, 0, 0))
		input(Attend(b, 0, 0, 0, 0))
		require.Zero(t, b.Blocks())
		b.Place(0)
		require.NoError(t, b.Close())
	}
	for _, tx := range []*Transaction{nil, {}} {
		require.ErrorIs(t, tx.Commit(), ErrClosed)
		require.NoError(t, tx.Rollback())
		_, err := tx.Span(0, 0, 0, 1)
		require.ErrorIs(t, err, ErrClosed)
		require.Zero(t, tx.Spare(0))
	}
	_, err := new(Cache).Begin(Claim{})
	input(err)
	_, _, err = new(Cache).Buffers(0)
	input(err)
	require.NoError(t, new(Cache).Close())
}

// TestPageListsComeLast: a device without room is asked before the lists of pages, which
// may be gigabytes, are made.
func TestPageListsComeLast(t *testing.T) {
	d := hiptest.NewFaulty(hip.NewReference(), errFault)
	defer d.Close()
	g := tiny()
	d.FailAt(2, "alloc")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := NewCache(d, g, 1, 1<<20, CacheBF16)
	runtime.ReadMemStats(&after)
	require.ErrorIs(t, err, hip.ErrOutOfMemory)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20))
}

// TestEveryFreeFailsOnce: the next Close frees what the device kept.
func TestEveryFreeFailsOnce(t *testing.T) {
	inner := hip.NewReference()
	defer inner.Close()
	for n := 1; ; n++ {
		d := hiptest.NewFaulty(inner, errFault)
		c, err := NewCache(d, tiny(), 2, 4, CacheBF16)
		require.NoError(t, err)
		b, s := NewBatch(c), c.NewSequence()
		tx, err := c.Begin(Claim{Sequence: s, To: 3})
		require.NoError(t, err)
		span, err := tx.Span(0, 0, 0, 3)
		require.NoError(t, err)
		require.NoError(t, b.Upload(span))
		require.NoError(t, tx.Commit())
		d.FailAt(n, "free")
		failed := false
		for _, end := range []func() error{b.Close, c.Close} {
			if err := end(); err != nil {
				failed = true
				require.ErrorIs(t, err, errFault)
				require.NoError(t, end())
			}
		}
		bytes, live := hiptest.InUse(inner)
		require.Zero(t, bytes+int64(live), "%d", n)
		if !failed {
			require.Greater(t, n, 7)
			return
		}
	}
}
