package mtp_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestRankFaults: whichever operation of a draft fails on one rank, no other waits for it
// for ever, nothing is leaked, and in a new group the ranks draft what they should.
func TestRankFaults(t *testing.T) {
	fsys := synthetic{seed: 3}.files(t)
	x := randomPassage(4, 12)
	faulty := hiptest.NewFaulty(openDevice(t, hip.NewHost(1)), errDevice)
	devices := []hip.Device{openDevice(t, hip.NewHost(1)), faulty}
	r := &rankHeads{heads: make([]*mtp.Head, 2)}
	regroup := func() {
		t.Helper()
		old := r.groups
		groups, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Timeout: time.Minute})
		require.NoError(t, err)
		r.groups = groups
		if old != nil {
			require.NoError(t, r.each(func(rank int) error {
				return errors.Join(r.heads[rank].Regroup(t.Context(), groups[rank]), old[rank].Close())
			}))
		}
	}
	regroup()
	require.NoError(t, r.each(func(rank int) (err error) {
		r.heads[rank], err = mtp.LoadFS(t.Context(), fsys, mtp.Options{Device: devices[rank], Group: r.groups[rank]})
		return err
	}))
	defer func() {
		for rank, h := range r.heads {
			require.NoError(t, errors.Join(h.Close(), r.groups[rank].Close()))
		}
	}()
	caches := []*mtp.Cache{newCache(t, r.heads[0], 16), newCache(t, r.heads[1], 16)}
	play := func() (got [2]drafted, errs [2]error) {
		_ = r.each(func(rank int) error {
			s := caches[rank].NewSequence()
			got[rank], errs[rank] = draftOf(t.Context(), r.heads[rank], x.batch(s, 0, 8), 3)
			return s.Close()
		})
		return got, errs
	}
	want, errs := play()
	require.NoError(t, errors.Join(errs[:]...))
	require.Equal(t, want[0], want[1])
	faulty.FailAt(0)
	_, errs = play() // with all buffers there
	require.NoError(t, errors.Join(errs[:]...))
	calls := faulty.FailAt(0)
	require.Greater(t, calls, 50)
	step := 1
	if hiptest.RaceDetector {
		step = 11
	}
	late := 0 // faults after the last exchange, of which the other rank does not know
	for n := 1; n <= calls; n += step {
		faulty.FailAt(n)
		_, errs := play()
		faulty.FailAt(0)
		require.ErrorIs(t, errs[1], hip.ErrGroup, "operation %d", n)
		require.ErrorIs(t, errs[1], errDevice, "operation %d", n)
		if errs[0] == nil {
			late++
		} else {
			require.ErrorIs(t, errs[0], hip.ErrGroup, "operation %d", n)
			require.ErrorIs(t, errs[0], errDevice, "operation %d", n)
		}
		regroup()
	}
	require.LessOrEqual(t, late, 3)
	got, errs := play()
	require.NoError(t, errors.Join(errs[:]...))
	require.Equal(t, want, got)
}

// TestRankCannotLoad: ranks do not wait for one that has no checkpoint, another checkpoint
// or other options, everything is given back, and the same devices can load again.
func TestRankCannotLoad(t *testing.T) {
	fsys := synthetic{seed: 3}.files(t)
	devices := []hip.Device{openDevice(t, hip.NewHost(1)), openDevice(t, hip.NewReference())}
	type load func(rank int, o *mtp.Options) (err error)
	loadOn := func(change func(o *mtp.Options)) load {
		return func(rank int, o *mtp.Options) error {
			if change(o); rank == 0 {
				*o = mtp.Options{Device: o.Device, Group: o.Group}
			}
			h, err := mtp.LoadFS(t.Context(), fsys, *o)
			if err == nil {
				err = h.Close()
			}
			return err
		}
	}
	for _, c := range []struct {
		name string
		load load
		says string // on rank 0
	}{
		{"no folder", func(rank int, o *mtp.Options) error {
			if rank == 1 {
				_, err := mtp.Load(t.Context(), t.TempDir()+"/absent", *o)
				return err
			}
			_, err := mtp.LoadFS(t.Context(), fsys, *o)
			return err
		}, "rank 1 did not load"},
		{"another chain", loadOn(func(o *mtp.Options) { o.Chain = mtp.ChainModOwn }), "with another config or other options"},
		{"another layout", loadOn(func(o *mtp.Options) { o.ExpertParallel = mtp.Shard{Rank: 1, Size: 2} }), "of other sizes than on rank"},
		{"no device", func(rank int, o *mtp.Options) error {
			if rank == 1 {
				o.Device = nil
			}
			_, err := mtp.LoadFS(t.Context(), fsys, *o)
			return err
		}, "Options.Device is nil, want the device of Group"},
		{"the same share", loadOn(func(o *mtp.Options) { o.TensorParallel = mtp.Shard{Rank: 0, Size: 2} }), "the same on ranks 0 and 1"},
		{"too few ranks", loadOn(func(o *mtp.Options) { o.TensorParallel = mtp.Shard{Rank: 1, Size: 4} }), "rank 1 did not load"},
		{"ranks that do not divide", loadOn(func(o *mtp.Options) { o.TensorParallel = mtp.Shard{Rank: 1, Size: 3} }), "rank 1 did not load"},
	} {
		t.Run(c.name, func(t *testing.T) {
			groups, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Timeout: time.Minute})
			require.NoError(t, err)
			errs := make([]error, 2)
			r := &rankHeads{groups: groups}
			require.NoError(t, r.each(func(rank int) error {
				errs[rank] = c.load(rank, &mtp.Options{Device: devices[rank], Group: groups[rank]})
				return nil
			}))
			require.Error(t, errs[1])
			require.ErrorContains(t, errs[0], c.says)
			for rank, d := range devices {
				requireEmpty(t, d)
				require.NoError(t, groups[rank].Close())
			}
		})
	}
	again := loadRanks(t, fsys, mtp.Options{}, layout{2, 1, false}, newHosts())
	require.NotNil(t, again.heads[1])
}

// TestRankSequenceBytes: each rank's share of a sequence moves to the same rank of another
// head, and to no other.
func TestRankSequenceBytes(t *testing.T) {
	fsys := synthetic{modules: 3, seed: 3}.files(t)
	x := randomPassage(4, 16)
	from := loadRanks(t, fsys, mtp.Options{MaxDraft: 3}, layout{2, 1, false}, hip.NewReference)
	to := loadRanks(t, fsys, mtp.Options{MaxDraft: 3}, layout{2, 1, false}, hip.NewReference)
	shares, want := make([]bytes.Buffer, 2), make([]drafted, 2)
	require.NoError(t, from.each(func(rank int) error {
		cache, err := from.heads[rank].NewCache(16)
		if err != nil {
			return err
		}
		s := cache.NewSequence()
		if _, err := draftOf(t.Context(), from.heads[rank], x.batch(s, 0, 9), 3); err != nil {
			return err
		}
		if _, err := s.WriteTo(&shares[rank]); err != nil {
			return err
		}
		want[rank], err = draftOf(t.Context(), from.heads[rank], x.batch(s, 9, 16), 3)
		return err
	}))
	got := make([]drafted, 2)
	require.NoError(t, to.each(func(rank int) error {
		cache, err := to.heads[rank].NewCache(16)
		if err != nil {
			return err
		}
		var wrong *mtp.InputError
		if _, err := cache.ReadSequence(bytes.NewReader(shares[1-rank].Bytes())); !errors.As(err, &wrong) || wrong.Field != "rank of TensorParallel" {
			return errors.Join(errors.New("another rank's share was taken"), err)
		}
		s, err := cache.ReadSequence(bytes.NewReader(shares[rank].Bytes()))
		if err != nil {
			return err
		}
		got[rank], err = draftOf(t.Context(), to.heads[rank], x.batch(s, 9, 16), 3)
		return err
	}))
	require.Equal(t, want, got)
}
