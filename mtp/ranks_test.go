package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// layout is how the ranks of a parallel head share it.
type layout struct {
	tensor, expert int
	dealt          bool // as vLLM: the ranks that cut attention deal the experts
}

func (l layout) String() string {
	if l.dealt {
		return fmt.Sprintf("tp=%d with dealt experts", l.tensor)
	}
	return fmt.Sprintf("tp=%d/ep=%d", l.tensor, l.expert)
}

func (l layout) ranks() int {
	if l.dealt {
		return l.tensor
	}
	return l.tensor * l.expert
}

// shards returns the shares of a rank.
func (l layout) shards(rank int) (tensor, expert mtp.Shard) {
	if l.dealt {
		return mtp.Shard{Rank: rank, Size: l.tensor}, mtp.Shard{Rank: rank, Size: l.expert}
	}
	return mtp.Shard{Rank: rank % l.tensor, Size: l.tensor}, mtp.Shard{Rank: rank / l.tensor, Size: l.expert}
}

var rankLayouts = []layout{{2, 1, false}, {4, 1, false}, {1, 2, false}, {1, 4, false}, {2, 2, false}, {2, 2, true}}

// rankHeads is the heads of all ranks of a parallel head.
type rankHeads struct {
	heads  []*mtp.Head
	groups []*hip.Group
}

// loadRanks loads the ranks, each on a device of its own.
func loadRanks(t testing.TB, fsys fs.FS, opts mtp.Options, l layout, open func() hip.Device) *rankHeads {
	t.Helper()
	devices := make([]hip.Device, l.ranks())
	for i := range devices {
		devices[i] = openDevice(t, open())
	}
	groups, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Timeout: time.Minute})
	require.NoError(t, err)
	r := &rankHeads{heads: make([]*mtp.Head, len(devices)), groups: groups}
	t.Cleanup(func() {
		for i, g := range groups {
			if r.heads[i] != nil {
				if err := r.heads[i].Close(); err != nil {
					require.ErrorIs(t, err, mtp.ErrClosed)
				}
			}
			if err := g.Close(); err != nil {
				require.ErrorIs(t, err, hip.ErrClosed)
			}
		}
	})
	require.NoError(t, r.each(func(rank int) (err error) {
		o := opts
		o.Device, o.Group = devices[rank], groups[rank]
		o.TensorParallel, o.ExpertParallel = l.shards(rank)
		r.heads[rank], err = mtp.LoadFS(t.Context(), fsys, o)
		return err
	}))
	return r
}

// each calls do for all ranks at once and joins their errors.
func (r *rankHeads) each(do func(rank int) error) error {
	errs := make([]error, len(r.groups))
	var all sync.WaitGroup
	for rank := range r.groups {
		all.Go(func() {
			if err := do(rank); err != nil {
				errs[rank] = fmt.Errorf("rank %d: %w", rank, err)
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// newHosts opens hosts of one thread and references in turn.
func newHosts() func() hip.Device {
	n := 0
	return func() hip.Device {
		if n++; n%2 == 0 {
			return hip.NewReference()
		}
		return hip.NewHost(1)
	}
}

// TestParallelChains: every layout drafts what one rank drafts, by every chain, with the
// same bits on all ranks.
func TestParallelChains(t *testing.T) {
	const k, positions = 4, 21
	for _, c := range chainCases {
		for _, l := range rankLayouts {
			t.Run(c.name+"/"+l.String(), func(t *testing.T) {
				t.Parallel()
				fsys := synthetic{modules: c.modules, seed: 5}.files(t)
				x := randomPassage(9, positions)
				play := func(head *mtp.Head) (got []drafted, err error) {
					cache, err := head.NewCache(64)
					if err != nil {
						return nil, err
					}
					s := cache.NewSequence()
					for at := 0; at < positions; at += 7 {
						d, err := draftOf(t.Context(), head, x.batch(s, at, at+7), k)
						if err != nil {
							return nil, err
						}
						got = append(got, d)
					}
					return got, nil
				}
				want, err := play(load(t, fsys, c.options()))
				require.NoError(t, err)
				r := loadRanks(t, fsys, c.options(), l, hip.NewReference)
				all := make([][]drafted, l.ranks())
				require.NoError(t, r.each(func(rank int) (err error) {
					all[rank], err = play(r.heads[rank])
					return err
				}))
				for rank, got := range all {
					for i := range want {
						require.Equal(t, want[i].ids(), got[i].ids(), "rank %d, call %d", rank, i)
						require.Equal(t, all[0][i].probs(), got[i].probs(), "rank %d, call %d", rank, i)
						for s, probs := range want[i].probs() {
							require.InDeltaSlice(t, probs, got[i].probs()[s], 1e-5)
						}
					}
				}
			})
		}
	}
}

// TestParallelCalls: Forward, Logits, TopK, sampled and masked drafts, a small vocabulary
// and a requantized lm_head give on every rank what one rank gives.
func TestParallelCalls(t *testing.T) {
	fsys := synthetic{seed: 3}.files(t)
	x := randomPassage(4, 12)
	mask := func([]int32) []uint32 { return []uint32{0x0ff0f0f1, 0x00003333} }
	type result struct {
		stages         int
		hidden, logits []float32
		ids            []int32
		probs          []float32
		drafts         []mtp.Draft
	}
	play := func(head *mtp.Head) (r result, err error) {
		cache, err := head.NewCache(64)
		if err != nil {
			return r, err
		}
		s := cache.NewSequence()
		observed := x.batch(s, 0, 8)
		observed.Observe = func(mtp.Stage) { r.stages++ }
		hidden, err := head.Forward(t.Context(), observed, 0)
		if err != nil {
			return r, err
		}
		r.hidden = hidden.Float32
		if r.logits, err = head.Logits(t.Context(), hidden, nil, 0); err != nil {
			return r, err
		}
		if r.ids, r.probs, err = head.TopK(t.Context(), hidden, []int{7, 0}, 0, 9); err != nil {
			return r, err
		}
		if err := s.Truncate(0); err != nil {
			return r, err
		}
		b := withDrafts(join(x.batch(s, 0, 8), x.batch(cache.NewSequence(), 0, 3), x.batch(cache.NewSequence(), 0, 1)), 4)
		b.Sequences[0].Sampling = &mtp.Sampling{Temperature: 1, Seed: 11}
		b.Sequences[1].Sampling = &mtp.Sampling{Temperature: 0.8, TopP: 0.9, Seed: 12}
		b.Sequences[1].Allowed = mask
		b.Sequences[2].Allowed = mask
		r.drafts, err = head.Draft(t.Context(), b)
		return r, err
	}
	for _, o := range []mtp.Options{{}, {DraftVocabulary: []int32{40, 3, 5, 33, 7, 0, 46, 12, 4}}, {DraftLMHead: 0, MaxRows: 3}} {
		o.CacheFormat = attention.CacheF32
		for _, l := range rankLayouts {
			t.Run(fmt.Sprintf("vocabulary of %d, rows %d/%v", len(o.DraftVocabulary), o.MaxRows, l), func(t *testing.T) {
				t.Parallel()
				want, err := play(load(t, fsys, o))
				require.NoError(t, err)
				r := loadRanks(t, fsys, o, l, hip.NewReference)
				all := make([]result, l.ranks())
				require.NoError(t, r.each(func(rank int) (err error) {
					all[rank], err = play(r.heads[rank])
					return err
				}))
				for _, got := range all {
					require.InDeltaSlice(t, want.hidden, got.hidden, 1e-4)
					require.InDeltaSlice(t, want.logits, got.logits, 1e-4)
					require.Equal(t, want.ids, got.ids)
					require.InDeltaSlice(t, want.probs, got.probs, 1e-5)
					for i, d := range want.drafts {
						require.Equal(t, d.Tokens, got.drafts[i].Tokens)
					}
					require.Greater(t, got.stages, 15)
					got.stages = all[0].stages // a rank without a shared expert has one fewer
					require.Equal(t, all[0], got)
				}
			})
		}
	}
}

// TestRanksDiffer: ranks that are given different work get an error that says so, and none
// waits for ever. New groups draft again.
func TestRanksDiffer(t *testing.T) {
	fsys := synthetic{seed: 3}.files(t)
	x, other := randomPassage(4, 12), randomPassage(5, 12)
	copy(other.hidden, x.hidden)
	r := loadRanks(t, fsys, mtp.Options{}, layout{2, 1, false}, newHosts())
	caches := make([]*mtp.Cache, 2)
	for i, h := range r.heads {
		caches[i] = newCache(t, h, 64)
	}
	for _, c := range []struct {
		name  string
		batch func(s *mtp.Sequence) *mtp.Batch // of rank 1
		says  string
	}{
		{"other tokens", func(s *mtp.Sequence) *mtp.Batch { return withDrafts(other.batch(s, 0, 8), 2) }, "ranks 0 and 1 were given different batches"},
		{"more rows", func(s *mtp.Sequence) *mtp.Batch { return withDrafts(x.batch(s, 0, 9), 2) }, "ranks 0 and 1 were given different batches"},
		{"other hidden states", func(s *mtp.Sequence) *mtp.Batch {
			b := withDrafts(x.batch(s, 0, 8), 2)
			b.Hidden.Float32 = append([]float32{}, b.Hidden.Float32...)
			b.Hidden.Float32[3] += 1e-7
			return b
		}, "ranks 0 and 1 were given different batches"},
		{"fewer drafts", func(s *mtp.Sequence) *mtp.Batch { return withDrafts(x.batch(s, 0, 8), 1) }, "ranks 0 and 1 were given different batches"},
		{"another seed", func(s *mtp.Sequence) *mtp.Batch {
			b := withDrafts(x.batch(s, 0, 8), 2)
			b.Sequences[0].Sampling = &mtp.Sampling{Seed: 1}
			return b
		}, "ranks 0 and 1 were given different batches"},
		{"another mask", func(s *mtp.Sequence) *mtp.Batch {
			b := withDrafts(x.batch(s, 0, 8), 2)
			b.Sequences[0].Allowed = func([]int32) []uint32 { return []uint32{1, 1} }
			return b
		}, "ranks 0 and 1 were given different batches"},
		{"a wrong mask", func(s *mtp.Sequence) *mtp.Batch {
			b := withDrafts(x.batch(s, 0, 8), 2)
			b.Sequences[0].Allowed = func([]int32) []uint32 { return []uint32{1} }
			return b
		}, "ranks 0 and 1 were given different batches"},
		{"nothing to draft", func(s *mtp.Sequence) *mtp.Batch { return x.batch(s, 0, 8) }, "for rank 1"},
		{"an observer that panics", func(s *mtp.Sequence) *mtp.Batch {
			b := withDrafts(x.batch(s, 0, 8), 2)
			b.Observe = func(mtp.Stage) { panic("enough") }
			return b
		}, "a call has panicked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			most := time.Minute
			if c.name == "nothing to draft" { // for which rank 1 needs nobody: rank 0 waits in vain
				most = time.Second
			}
			groups, err := hip.NewGroup(t.Context(), []hip.Device{r.heads[0].Device(), r.heads[1].Device()}, hip.GroupOptions{Timeout: most})
			require.NoError(t, err)
			old := slices.Clone(r.groups)
			r.groups = groups
			require.NoError(t, r.each(func(rank int) error {
				return errors.Join(r.heads[rank].Regroup(t.Context(), groups[rank]), old[rank].Close())
			}))
			sequences := []*mtp.Sequence{caches[0].NewSequence(), caches[1].NewSequence()}
			errs := make([]error, 2)
			_ = r.each(func(rank int) error {
				defer func() {
					if recover() != nil {
						errs[rank] = hip.ErrGroup
					}
				}()
				b := withDrafts(x.batch(sequences[rank], 0, 8), 2)
				if rank == 1 {
					b = c.batch(sequences[rank])
				}
				_, errs[rank] = r.heads[rank].Draft(t.Context(), b)
				return nil
			})
			require.ErrorIs(t, errs[0], hip.ErrGroup)
			require.ErrorContains(t, errs[0], c.says)
			require.Zero(t, sequences[0].Len(), "nothing was committed")
			if c.name != "nothing to draft" {
				require.ErrorIs(t, errs[1], hip.ErrGroup)
			}
			_, err = r.heads[0].Draft(t.Context(), withDrafts(x.batch(sequences[0], 0, 8), 2))
			require.ErrorIs(t, err, hip.ErrGroup, "a failed group stays failed")
		})
	}
}

// TestRankCanceled: a context that ends on one rank ends the call on all.
func TestRankCanceled(t *testing.T) {
	r := loadRanks(t, synthetic{}.files(t), mtp.Options{}, layout{2, 1, false}, newHosts())
	x := randomPassage(4, 12)
	err := r.each(func(rank int) error {
		cache, err := r.heads[rank].NewCache(16)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		b := withDrafts(x.batch(cache.NewSequence(), 0, 8), 4)
		if rank == 1 {
			b.Sequences[0].Allowed = func(drafted []int32) []uint32 { // after the first step
				cancel()
				return nil
			}
		} else {
			b.Sequences[0].Allowed = func([]int32) []uint32 { return nil }
		}
		_, err = r.heads[rank].Draft(ctx, b)
		if !errors.Is(err, hip.ErrGroup) || b.Sequences[0].Sequence.Len() != 0 {
			return fmt.Errorf("not ended: %w", err)
		}
		return nil
	})
	require.NoError(t, err)
}

// TestRanksRefuseMasks: a mask that is wrong on all ranks is an InputError on each, and
// they draft on; wrong on one, it ends the call on all of them by the step's own exchange.
func TestRanksRefuseMasks(t *testing.T) {
	r := loadRanks(t, synthetic{}.files(t), mtp.Options{}, layout{2, 1, false}, newHosts())
	x := randomPassage(4, 12)
	sequences := make([]*mtp.Sequence, 2)
	for rank, h := range r.heads {
		sequences[rank] = newCache(t, h, 16).NewSequence()
	}
	draft := func(wrong func(rank, drafted int) bool) []error {
		errs := make([]error, 2)
		_ = r.each(func(rank int) error {
			b := withDrafts(x.batch(sequences[rank], 0, 8), 4)
			b.Sequences[0].Allowed = func(drafted []int32) []uint32 {
				if wrong(rank, len(drafted)) {
					return []uint32{0, 0}
				}
				return []uint32{0x0ff0f0f1, 0x00003333}
			}
			_, errs[rank] = r.heads[rank].Draft(t.Context(), b)
			return nil
		})
		return errs
	}
	for at := range 4 {
		for rank, err := range draft(func(_, drafted int) bool { return drafted == at }) {
			var refused *mtp.InputError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "Allowed", refused.Field)
			require.NotErrorIs(t, err, hip.ErrGroup)
			require.Zero(t, sequences[rank].Len())
		}
	}
	errs := draft(func(rank, drafted int) bool { return rank == 1 && drafted == 2 })
	for _, err := range errs {
		require.ErrorIs(t, err, hip.ErrGroup)
		require.ErrorContains(t, err, "ranks 0 and 1 were given different batches")
	}
	require.NotErrorIs(t, errs[0], mtp.ErrInput)
	require.ErrorIs(t, errs[1], mtp.ErrInput, "its own")
}
