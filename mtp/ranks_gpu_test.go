package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// TestRanksOnGPUs: over two GPUs the ranks draft what one host drafts, with and without
// graphs, also after a rank was canceled in the middle and they formed a new group.
func TestRanksOnGPUs(t *testing.T) {
	ranksOnTwo(t, hiptest.TwoGPUs(t), hip.GroupOptions{Timeout: 20 * time.Second}, 70, []int{1, 3}, []layout{{2, 1, false}, {1, 2, false}, {2, 2, true}})
}

// TestRanksOnEmulations is the same on emulated GPUs with an emulated RCCL, and NCCL.
func TestRanksOnEmulations(t *testing.T) {
	if hiptest.RaceDetector {
		t.Skip("the emulator's threads are not Go's: there are no races to find")
	}
	for i, kind := range []string{"hip", "hip 32 reverse", "cuda random"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			driver := hiptest.NewEmulator(t, kind, 1<<30)
			devices := make([]hip.Device, 2)
			for n := range devices {
				d, err := hip.Open(n, driver.Options())
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, d.Close()) })
				devices[n] = d
			}
			layouts := []layout{{2, 1, false}, {1, 2, false}, {2, 2, true}}[i : i+1]
			ranksOnTwo(t, devices, hip.GroupOptions{Timeout: time.Minute, Library: driver.Options().Library}, 14, []int{1}, layouts)
		})
	}
}

func ranksOnTwo(t *testing.T, devices []hip.Device, groupOptions hip.GroupOptions, positions int, modules []int, layouts []layout) {
	for _, modules := range modules {
		for _, l := range layouts {
			t.Run(fmt.Sprintf("%d modules/%v", modules, l), func(t *testing.T) {
				opts := mtp.Options{MaxDraft: 3}
				fsys := synthetic{modules: modules, format: "BF16", seed: 7}.files(t)
				x := randomPassage(4, positions)
				play := func(head *mtp.Head, times int) (got []drafted, err error) {
					cache, err := head.NewCache(64)
					if err != nil {
						return nil, err
					}
					defer func() { err = errors.Join(err, cache.Close()) }()
					for range times { // the second is recorded, the third replayed
						s := cache.NewSequence()
						for at := 0; at < positions; at += 7 {
							d, err := draftOf(t.Context(), head, x.batch(s, at, at+7), 3)
							if err != nil {
								return nil, err
							}
							got = append(got, d)
						}
						if err := s.Close(); err != nil {
							return nil, err
						}
					}
					return got, nil
				}
				alone := opts
				alone.Device = openDevice(t, hip.NewReference())
				want, err := play(load(t, fsys, alone), 1)
				require.NoError(t, err)

				form := func() []*hip.Group {
					groups, err := hip.NewGroup(t.Context(), devices, groupOptions)
					require.NoError(t, err)
					return groups
				}
				r := &rankHeads{heads: make([]*mtp.Head, 2), groups: form()}
				require.NoError(t, r.each(func(rank int) (err error) {
					o := opts
					o.Device, o.Group = devices[rank], r.groups[rank]
					o.TensorParallel, o.ExpertParallel = l.shards(rank)
					r.heads[rank], err = mtp.LoadFS(t.Context(), fsys, o)
					return err
				}))
				defer func() {
					require.NoError(t, r.each(func(rank int) error { return errors.Join(r.heads[rank].Close(), r.groups[rank].Close()) }))
				}()
				compare := func() {
					t.Helper()
					all := make([][]drafted, 2)
					require.NoError(t, r.each(func(rank int) (err error) {
						all[rank], err = play(r.heads[rank], 3)
						return err
					}))
					require.Equal(t, all[0], all[1], "both ranks")
					for i, got := range all[0] {
						require.Equal(t, want[i%len(want)].ids(), got.ids(), "call %d", i)
						require.Equal(t, all[0][i%len(want)].ids(), got.ids(), "call %d", i)
					}
				}
				compare()

				errs := make([]error, 2)
				_ = r.each(func(rank int) error {
					cache, err := r.heads[rank].NewCache(64)
					if err != nil {
						return err
					}
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					b := withDrafts(x.batch(cache.NewSequence(), 0, 7), 3)
					b.Sequences[0].Allowed = func(drafted []int32) []uint32 {
						if rank == 1 && len(drafted) == 1 {
							cancel()
						}
						return nil
					}
					_, errs[rank] = r.heads[rank].Draft(ctx, b)
					return nil
				})
				require.ErrorIs(t, errs[0], hip.ErrGroup)
				require.ErrorIs(t, errs[1], hip.ErrGroup)
				old := r.groups
				r.groups = form()
				require.NoError(t, r.each(func(rank int) error {
					return errors.Join(r.heads[rank].Regroup(t.Context(), r.groups[rank]), old[rank].Close())
				}))
				compare()
			})
		}
	}
}

// TestGroupOfGPUs: operations of groups of two GPUs, in graphs too, and what ends them.
func TestGroupOfGPUs(t *testing.T) {
	devices := hiptest.TwoGPUs(t)
	groups, err := hip.NewGroup(t.Context(), devices, hip.GroupOptions{Timeout: 500 * time.Millisecond})
	require.NoError(t, err)
	r := &rankHeads{groups: groups}
	require.NoError(t, r.each(func(rank int) error {
		g, d := groups[rank], devices[rank]
		replay := hip.NewReplayer(d, 4)
		values := []float32{float32(1 + rank), 10}
		p, err := hip.Upload(d, values)
		if err != nil {
			return err
		}
		want := []float32{6, 40} // summed, and that summed again
		for range 5 {
			err := replay.Run(func(d hip.Device) error { return errors.Join(g.AllReduce(d, p, 2), g.AllReduce(d, p, 2)) })
			if err != nil {
				return err
			}
			if err := hip.ReadOf(d, values, p); err != nil {
				return err
			}
			if values[0] != want[0] || values[1] != want[1] {
				return fmt.Errorf("%v, want %v", values, want)
			}
			want[0], want[1] = 4*want[0], 4*want[1]
		}
		all, err := g.Exchange([]byte{byte(rank), 5, 6})
		if err != nil || all[0][0] != 0 || all[1][0] != 1 {
			return fmt.Errorf("exchange: %v, %w", all, err)
		}
		one := []int32{int32(40 + rank)}
		q, err := hip.Upload(d, one)
		if err := errors.Join(err, g.Broadcast(d, q, 4, 1), hip.ReadOf(d, one, q)); err != nil || one[0] != 41 {
			return fmt.Errorf("broadcast: %v, %w", one, err)
		}
		return errors.Join(replay.Close(), d.Free(p), d.Free(q))
	}))
	_ = r.each(func(rank int) error {
		if rank == 0 { // alone
			stop := groups[0].Watch(context.Background())
			_, err := groups[0].Exchange([]byte{1})
			require.ErrorIs(t, errors.Join(err, stop()), hip.ErrGroup)
		}
		return nil
	})
	for rank, g := range groups {
		require.ErrorIs(t, g.Err(), hip.ErrGroup)
		require.NoError(t, g.Close())
		require.NoError(t, devices[rank].Sync(), "the device goes on")
	}
}
