package mtp_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

var gpuPlatforms = []string{"hip", "cuda"}

func openEmulated(t *testing.T, opts hip.OpenOptions, index int) hip.Device {
	t.Helper()
	d, err := hip.Open(index, opts)
	require.NoError(t, err)
	return d
}

// TestTwoGPUs: goroutines draft on two heads, each on a device of its own in one
// process, what the reference drafts.
func TestTwoGPUs(t *testing.T) {
	const goroutines, n = 6, 12
	files := [2]synthetic{{modules: 1, seed: 1}, {modules: 3, seed: 2}}
	drafts := func(head *mtp.Head, i int) (all [][]int32, err error) {
		cache, err := head.NewCache(12)
		if err != nil {
			return nil, err
		}
		x, s := randomPassage(uint64(700+i), n), cache.NewSequence()
		for end := 3; end <= n; end += 3 { // the last ones are graphs
			drafts, err := draftOf(context.Background(), head, x.batch(s, s.Len(), end), 3)
			if err != nil {
				return nil, err
			}
			all = append(all, drafts.ids()...)
		}
		return all, cache.Close()
	}
	var want, got [goroutines][][]int32
	for i := range want {
		head := load(t, files[i%2].files(t), mtp.Options{CacheFormat: attention.CacheF32})
		var err error
		want[i], err = drafts(head, i)
		require.NoError(t, err)
	}
	for _, e := range gpuPlatforms {
		t.Run(e, func(t *testing.T) {
			m := hiptest.NewEmulator(t, e, 0)
			var heads [2]*mtp.Head
			var devices [2]hip.Device
			for i := range heads {
				devices[i] = openEmulated(t, m.Options(), i)
				heads[i] = load(t, files[i].files(t), mtp.Options{Device: devices[i], CacheFormat: attention.CacheF32})
			}
			errs := make([]error, goroutines)
			var group sync.WaitGroup
			for i := range got {
				group.Go(func() { got[i], errs[i] = drafts(heads[i%2], i) })
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
			require.Equal(t, want, got)
			for i := range heads {
				require.NoError(t, heads[i].Close())
				requireEmpty(t, devices[i])
				require.NoError(t, devices[i].Close())
			}
		})
	}
}

// TestGPULoadFailures: a Load that runs out of memory or is canceled half way ends
// in its own error and leaves nothing behind, and then the head loads.
func TestGPULoadFailures(t *testing.T) {
	files := synthetic{modules: 1}.files(t)
	for _, e := range gpuPlatforms {
		t.Run(e, func(t *testing.T) {
			const memory = 4 << 20
			d := openEmulated(t, hiptest.NewEmulator(t, e, memory).Options(), 0)
			options := mtp.Options{Device: d}
			head, err := mtp.LoadFS(t.Context(), files, options)
			require.NoError(t, err)
			needed, _ := hiptest.InUse(d)
			require.NoError(t, head.Close())
			requireEmpty(t, d)
			// What is freed in the order of the stream is there again after it.
			require.NoError(t, d.Sync())

			for _, short := range []int64{1, needed / 2, needed - 64} {
				taken, err := d.Alloc(memory - needed + short)
				require.NoError(t, err)
				_, err = mtp.LoadFS(t.Context(), files, options)
				require.ErrorIs(t, err, hip.ErrOutOfMemory)
				require.Regexp(t, `: [1-9]\d* bytes asked for`, err.Error())
				require.Regexp(t, `(mtp\.layers|lm_head|embed_tokens)`, err.Error(), "it names the parameter")
				_, live := hiptest.InUse(d)
				require.Equal(t, 1, live, "what the test took")
				require.NoError(t, errors.Join(d.Free(taken), d.Sync()))
			}

			for _, after := range []int64{1, needed / 3} {
				ctx, cancel := context.WithCancel(t.Context())
				options.Progress = func(done, _ int64) {
					if done >= after {
						cancel()
					}
				}
				_, err := mtp.LoadFS(ctx, files, options)
				require.ErrorIs(t, err, context.Canceled)
				requireEmpty(t, d)
				require.NoError(t, d.Sync())
			}
			options.Progress = nil
			head, err = mtp.LoadFS(t.Context(), files, options)
			require.NoError(t, err)
			require.NoError(t, errors.Join(head.Close(), d.Close()))
		})
	}
}

// TestEveryDriverCallOfAHeadMayFail: whichever call of the driver fails while a head
// is loaded and drafts, the error says so, the driver is left with nothing, and the
// next head works.
func TestEveryDriverCallOfAHeadMayFail(t *testing.T) {
	files := synthetic{modules: 1}.files(t)
	x := randomPassage(720, 12)
	for _, e := range gpuPlatforms {
		t.Run(e, func(t *testing.T) {
			m := hiptest.NewEmulator(t, e, 0)
			life := func(fail int) (calls int, err error) {
				d := openEmulated(t, m.Options(), 0)
				m.FailAt(fail)
				defer func() {
					calls = m.FailAt(0)
					require.NoError(t, d.Close())
					require.Empty(t, m.Left(), "call %d: %v", fail, err)
				}()
				head, err := mtp.LoadFS(t.Context(), files, mtp.Options{Device: d})
				if err != nil {
					return 0, err
				}
				defer func() { err = errors.Join(err, head.Close()) }()
				cache, err := head.NewCache(12)
				if err != nil {
					return 0, err
				}
				s := cache.NewSequence()
				for end := 3; end <= 12 && err == nil; end += 3 {
					_, err = draftOf(t.Context(), head, x.batch(s, s.Len(), end), 2)
				}
				return 0, err
			}
			calls, err := life(0)
			require.NoError(t, err)
			require.Greater(t, calls, 300)
			step := 23 // not a multiple of the calls that one operation makes
			if hiptest.RaceDetector {
				step = 211
			}
			for at := 1; at <= calls; at += step {
				_, err := life(at)
				if err != nil {
					require.ErrorContains(t, err, ": error 304: ", "call %d", at)
				}
			}
			_, err = life(0)
			require.NoError(t, err)
		})
	}
}
