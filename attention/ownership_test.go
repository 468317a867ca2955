package attention

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// TestOneOwnerOfPages: pages that an engine handed out are unknown to a Sequence, and the
// other way round. What succeeds first settles it, and nothing else does.
func TestOneOwnerOfPages(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 2, CacheF32)
	engine := Claim{BlockTable: []int32{0, 1}, To: 5}
	sequence := func() Claim { return Claim{Sequence: c.NewSequence(), To: 5} }
	begin := func(claim Claim) *Transaction {
		tx, err := c.Begin(claim)
		require.NoError(t, err)
		return tx
	}
	refused := func(err error) {
		t.Helper()
		require.ErrorIs(t, err, hip.ErrInput)
		require.ErrorContains(t, err, "Sequences or BlockTables, not both")
	}
	_, err := c.Begin(Claim{Sequence: c.NewSequence(), To: 9})
	require.ErrorIs(t, err, ErrCacheFull)
	require.ErrorIs(t, c.NewSequence().Reserve(9), ErrCacheFull)

	tx := begin(engine) // nothing is settled yet
	other := begin(engine)
	require.NoError(t, other.Rollback())
	_, err = c.Begin(sequence())
	refused(err)
	refused(c.NewSequence().Reserve(1))
	require.NoError(t, tx.Rollback())

	s := sequence()
	tx = begin(s)
	_, err = c.Begin(engine)
	refused(err)
	require.NoError(t, tx.Rollback())
	require.NoError(t, begin(engine).Commit())
	_, err = c.Begin(s)
	refused(err)
	require.EqualError(t, c.NewSequence().Reserve(1), "attention: reserve: cache is used with BlockTables, want Sequences or BlockTables, not both")
	require.Equal(t, 2, c.FreePages())
	require.NoError(t, begin(engine).Rollback(), "nor does a failure unsettle it")
	_, err = c.Begin(s)
	refused(err)

	c = newCache(t, d, tiny(), 1, 2, CacheF32)
	require.NoError(t, c.NewSequence().Reserve(1))
	_, err = c.Begin(engine)
	refused(err)
}

// Two first calls at the same time, one for each kind: one is refused.
func TestOneOwnerOfTwoAtOnce(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	for range 50 {
		c := newCache(t, d, tiny(), 1, 2, CacheF32)
		var errs [2]error
		var group sync.WaitGroup
		for i, claim := range []Claim{{Sequence: c.NewSequence(), To: 5}, {BlockTable: []int32{0, 1}, To: 5}} {
			group.Go(func() {
				tx, err := c.Begin(claim)
				if err == nil {
					err = tx.Commit()
				}
				errs[i] = err
			})
		}
		group.Wait()
		require.NotEqual(t, errs[0] == nil, errs[1] == nil, "%v", errs)
		require.ErrorIs(t, errors.Join(errs[:]...), hip.ErrInput)
	}
}

// TestSequenceInUse: while a transaction goes on nothing else changes its sequences, and
// they can be read.
func TestSequenceInUse(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 8, CacheF32)
	s := c.NewSequence()
	tx, err := c.Begin(Claim{Sequence: s, To: 5})
	require.NoError(t, err)
	_, begin := c.Begin(Claim{Sequence: c.NewSequence(), To: 1}, Claim{Sequence: s, To: 1})
	require.EqualError(t, begin, "attention: begin: Sequences[1].Sequence is in use, want one that no other call uses: in use")
	_, fork := s.Fork()
	for _, err := range []error{begin, fork, s.Reserve(1), s.Truncate(0), s.Close()} {
		require.ErrorIs(t, err, errInUse)
	}
	require.Equal(t, []int{0, 2, 6}, []int{s.Len(), len(s.BlockTable()), c.FreePages()})
	require.NoError(t, tx.Commit())
	require.NoError(t, s.Truncate(3))
	require.NoError(t, s.Close())
	require.Equal(t, 8, c.FreePages())
}

// TestTwoUsesAtOnce: of goroutines that use one sequence at the same time some are refused,
// and its pages stay right. The race detector looks on.
func TestTwoUsesAtOnce(t *testing.T) {
	d := hip.NewReference()
	t.Cleanup(func() { _ = d.Close() })
	c := newCache(t, d, tiny(), 1, 64, CacheF32)
	s := c.NewSequence()
	var refused, done atomic.Int32
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for round := range 200 {
				for _, err := range []error{s.Reserve(3), grow(c, s, round%3 == 0), s.Truncate(0), forkAndClose(c, s)} {
					switch {
					case err == nil:
						done.Add(1)
					case errors.Is(err, errInUse):
						refused.Add(1)
					default:
						t.Errorf("round %d: %v", round, err)
					}
				}
				if n, table := s.Len(), s.BlockTable(); n > 5 || len(table) > 4 {
					t.Errorf("%d positions, %d pages", n, len(table))
				}
			}
		})
	}
	group.Wait()
	require.NotZero(t, done.Load())
	t.Logf("%d uses, %d refused", done.Load(), refused.Load())
	require.NoError(t, s.Close())
	require.Equal(t, 64, c.FreePages())
}

// grow writes the first five positions of s.
func grow(c *Cache, s *Sequence, rollback bool) error {
	tx, err := c.Begin(Claim{Sequence: s, To: 5, Spare: 2})
	if err != nil {
		return err
	}
	_, err = tx.Span(0, 0, 0, 5)
	if rollback {
		return errors.Join(err, tx.Rollback())
	}
	return errors.Join(err, tx.Commit())
}

// forkAndClose forks s and writes the fork.
func forkAndClose(c *Cache, s *Sequence) error {
	fork, err := s.Fork()
	if err != nil {
		return err
	}
	return errors.Join(grow(c, fork, false), fork.Close())
}
