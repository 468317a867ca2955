package attention

import (
	"errors"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// A reservation that was never written is given back by Truncate, and a shared
// one is replaced without a copy.
func TestReservedPages(t *testing.T) {
	d := hiptest.NewFaulty(hip.NewReference(), errFault)
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 8, CacheF32)
	s := c.NewSequence()
	require.NoError(t, s.Reserve(0))
	require.Equal(t, 8, c.FreePages())
	require.NoError(t, s.Reserve(5))
	require.Equal(t, 6, c.FreePages())
	require.Zero(t, s.Len())
	require.NoError(t, s.Reserve(3), "already there")
	require.Equal(t, 6, c.FreePages())

	fork, err := s.Fork()
	require.NoError(t, err)
	d.FailAt(1, "alloc", "copy")
	require.NoError(t, fork.Reserve(5), "nothing to copy")
	require.Equal(t, 4, c.FreePages())
	require.NoError(t, s.Truncate(s.Len()))
	require.Equal(t, 6, c.FreePages())
}

func TestRefusedSequenceCalls(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	g := tiny()
	g.Rope.Positions = 10
	c := newCache(t, d, g, 2, 4, CacheF32)
	m := newModeled(c)
	m.grow(t, 0, 0, 6, 1)
	s := m.seq
	for _, refused := range []struct {
		err  error
		rule error
		text string
	}{
		{s.Reserve(5), ErrPosition, "attention: reserve: n is 5, want at most 4 after 6, of 10 positions that there are: position out of range"},
		{s.Reserve(math.MaxInt), ErrPosition, "attention: reserve: n is 9223372036854775807, want at most 4 after 6, of 10 positions that there are: position out of range"},
		{s.Reserve(-1), hip.ErrInput, "attention: reserve: n is -1, want at least 0"},
		{s.Truncate(7), hip.ErrInput, "attention: truncate: n is 7, want 0 to 6, the positions of the sequence"},
		{s.Truncate(-1), hip.ErrInput, "attention: truncate: n is -1, want 0 to 6, the positions of the sequence"},
	} {
		require.EqualError(t, refused.err, refused.text)
		require.ErrorIs(t, refused.err, refused.rule)
		require.ErrorIs(t, refused.err, hip.ErrInput)
	}
	requireModel(t, c, []*modeled{m})

	other := newModeled(c)
	other.grow(t, 0, 0, 5, 2)
	err := s.Reserve(3)
	requireFull(t, err, 1, 0)
	require.EqualError(t, err, "attention: reserve: cache is full: 1 pages needed, 0 free; close or truncate other sequences, or make a larger cache")

	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "again")
	_, err = s.Fork()
	for _, err := range []error{err, s.Reserve(1), s.Truncate(0)} {
		require.ErrorIs(t, err, ErrClosed)
		require.ErrorContains(t, err, ": sequence is closed")
	}
	require.NoError(t, c.Close())
	require.EqualError(t, other.seq.Reserve(1), "attention: reserve: cache is closed")
	_, err = other.seq.Fork()
	require.ErrorIs(t, err, ErrClosed)
	require.NoError(t, other.seq.Truncate(2))
	require.NoError(t, other.seq.Close())
}

// A Sequence that no cache made has nothing, and every use of it says what it is.
func TestZeroSequence(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 4, CacheF32)
	s := new(Sequence)
	require.Zero(t, s.Len())
	require.Empty(t, s.BlockTable())
	_, fork := s.Fork()
	_, begin := c.Begin(Claim{Sequence: s, To: 1})
	for _, err := range []error{fork, begin, s.Reserve(0), s.Truncate(0)} {
		require.ErrorIs(t, err, hip.ErrInput)
		require.ErrorContains(t, err, "a zero Sequence")
	}
	require.NoError(t, s.Close())
}

// Sequences of one cache, forks of one parent among them, each in a goroutine.
func TestSequencesConcurrently(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 64, CacheF32)
	parent := newModeled(c)
	parent.grow(t, 0, 0, 10, 1)
	errs := make([]error, 8)
	var group sync.WaitGroup
	for i := range errs {
		fork, err := parent.seq.Fork()
		require.NoError(t, err)
		write := func(from, to int) error {
			tx, err := c.Begin(Claim{Sequence: fork, From: from, To: to, Spare: 3})
			if err != nil {
				return err
			}
			_, err = tx.Span(0, 0, from, to-from)
			return errors.Join(err, tx.Commit())
		}
		group.Go(func() {
			for round := range 50 {
				n := 1 + (i+round)%12
				errs[i] = errors.Join(errs[i], fork.Reserve(n), write(fork.Len(), fork.Len()+n), fork.Truncate(10-round%3), write(5, 7))
				errs[i] = errors.Join(errs[i], fork.Reserve(2), write(fork.Len()-1, 10), fork.Truncate(10))
			}
			errs[i] = errors.Join(errs[i], fork.Close())
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
	require.NoError(t, parent.seq.Close())
	require.Equal(t, 64, c.FreePages())
}
