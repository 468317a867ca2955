package mtp_test

import (
	"io/fs"
	"maps"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// eachFault calls do with every operation of it failing in turn, or some under
// the race detector, until one call meets no fault. It returns the kinds of
// operations that failed.
func eachFault(t *testing.T, most int, do func(n int) (failed string)) map[string]bool {
	t.Helper()
	kinds, step := map[string]bool{}, 1
	if hiptest.RaceDetector {
		step = 11
	}
	for n := 0; n < most; n += step {
		failed := do(n)
		if failed == "" {
			require.Positive(t, n, "nothing failed at all")
			return kinds
		}
		kinds[failed] = true
	}
	t.Fatalf("over %d operations", most)
	return nil
}

// requireKinds checks that faults met these kinds of operations.
func requireKinds(t *testing.T, kinds map[string]bool, want ...string) {
	t.Helper()
	if hiptest.RaceDetector {
		return // not every operation failed
	}
	for _, kind := range want {
		require.Contains(t, kinds, kind)
	}
}

// TestLoadFaults: whichever operation of a load or of making a cache fails, the
// error is the device's and everything is given back.
func TestLoadFaults(t *testing.T) {
	layout := synthetic{modules: 1, format: "MXFP8"}
	for name, c := range map[string]struct {
		files fs.FS
		adopt bool
		kinds []string
	}{
		"uploaded": {layout.files(t), false, []string{"alloc", "write"}},
		"in place": {os.DirFS(layout.folder(t)), true, []string{"alloc", "write", "adopt"}},
	} {
		t.Run(name, func(t *testing.T) {
			inner := openDevice(t, hip.NewReference())
			f := &faulty{Device: inner}
			var d hip.Device = f
			if c.adopt {
				d = faultyAdopter{f}
			}
			kinds := eachFault(t, 2000, func(n int) string {
				f.arm(n)
				head, err := mtp.LoadFS(t.Context(), c.files, mtp.Options{Device: d})
				failed := f.disarm()
				if failed == "" {
					require.NoError(t, err)
					require.NoError(t, head.Close())
					return ""
				}
				require.ErrorIs(t, err, errDevice, failed)
				require.Nil(t, head, failed)
				requireEmpty(t, inner)
				return failed
			})
			requireKinds(t, kinds, c.kinds...)
		})
	}
}

func TestNewCacheFaults(t *testing.T) {
	inner := openDevice(t, hip.NewReference())
	f := &faulty{Device: inner, failIn: -1}
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Device: f})
	bytes, live := hiptest.InUse(inner)
	eachFault(t, 100, func(n int) string {
		f.arm(n)
		cache, err := head.NewCache(4)
		failed := f.disarm()
		if failed == "" {
			require.NoError(t, err)
			require.NoError(t, cache.Close())
			require.ErrorIs(t, cache.Close(), mtp.ErrClosed)
		} else {
			require.ErrorIs(t, err, errDevice)
			require.Nil(t, cache)
		}
		bytesNow, liveNow := hiptest.InUse(inner)
		require.Equal(t, []any{bytes, live}, []any{bytesNow, liveNow}, failed)
		return failed
	})
}

// TestDraftFaults: whichever operation of a draft fails, the sequences are as
// they were, and the same call then gives what it would have given.
func TestDraftFaults(t *testing.T) {
	const n = 11
	x, y := randomPassage(400, n), randomPassage(401, n)
	for _, c := range chainCases {
		if !c.postNorm || c.modules == 1 {
			continue // does nothing that these do not
		}
		t.Run(c.name, func(t *testing.T) {
			files := synthetic{modules: c.modules}.files(t)
			prompts := func(sx, sy *mtp.Sequence) *mtp.Batch { return join(x.batch(sx, 0, 6), y.batch(sy, 0, 3)) }
			more := func(sx, sy *mtp.Sequence) *mtp.Batch { return join(x.batch(sx, 6, n), y.batch(sy, 3, 5)) }
			good := load(t, files, c.options())
			cache := newCache(t, good, 12)
			sx, sy := cache.NewSequence(), cache.NewSequence()
			want := [2]drafted{draft(t, good, prompts(sx, sy), 2), draft(t, good, more(sx, sy), 3)}

			inner := openDevice(t, hip.NewReference())
			f := &faulty{Device: inner, failIn: -1}
			kinds := map[string]bool{}
			for round := range want {
				maps.Copy(kinds, eachFault(t, 2000, func(at int) string {
					options := c.options()
					options.Device = f
					head, err := mtp.LoadFS(t.Context(), files, options)
					require.NoError(t, err)
					defer func() {
						require.NoError(t, head.Close())
						requireEmpty(t, inner)
					}()
					cache := newCache(t, head, 12)
					sx, sy := cache.NewSequence(), cache.NewSequence()
					b := prompts(sx, sy)
					if round == 1 {
						draft(t, head, b, 2)
						b = more(sx, sy)
					}
					before := []int{sx.Len(), sy.Len(), cache.FreePages()}
					f.arm(at)
					drafts, err := draftOf(t.Context(), head, b, 2+round)
					failed := f.disarm()
					if failed == "" {
						require.NoError(t, err)
						return ""
					}
					require.ErrorIs(t, err, errDevice, failed)
					require.False(t, f.busy(), failed)
					require.Nil(t, drafts)
					require.Equal(t, before, []int{sx.Len(), sy.Len(), cache.FreePages()}, failed)
					require.Equal(t, want[round], draft(t, head, b, 2+round), failed)
					return failed
				}))
			}
			requireKinds(t, kinds, "alloc", "write", "read", "launch take_rows", "launch embed_norm", "launch topk_merge")
		})
	}
}

// TestForwardFaults: the same of a Forward with an output on the device, of
// states that are widened, with stages observed.
func TestForwardFaults(t *testing.T) {
	const n = 9
	inner := openDevice(t, hip.NewReference())
	f := &faulty{Device: inner, failIn: -1}
	x := randomPassage(402, n)
	files := synthetic{}.files(t)
	good := load(t, files, mtp.Options{})
	want := forward(t, good, x.batch(newCache(t, good, 4).NewSequence(), 0, n), 0)
	out := upload(t, inner, make([]float32, n*hiddenSize))
	bytes, live := hiptest.InUse(inner)
	kinds := eachFault(t, 2000, func(at int) string {
		head, err := mtp.LoadFS(t.Context(), files, mtp.Options{Device: f})
		require.NoError(t, err)
		cache := newCache(t, head, 4)
		s := cache.NewSequence()
		b := x.batch(s, 0, n)
		b.Hidden, b.Output, b.Observe = mtp.Hidden{BFloat16: narrow(x.hidden)}, out, func(mtp.Stage) {}
		f.arm(at)
		_, err = head.Forward(t.Context(), b, 0)
		failed := f.disarm()
		if failed != "" {
			require.ErrorIs(t, err, errDevice, failed)
			require.False(t, f.busy(), failed)
			require.Equal(t, []int{0, 4}, []int{s.Len(), cache.FreePages()}, failed)
			_, err = head.Forward(t.Context(), b, 0)
		}
		require.NoError(t, err)
		got := make([]float32, n*hiddenSize)
		require.NoError(t, hip.ReadOf(inner, got, out))
		require.Equal(t, want, got, failed)
		require.NoError(t, head.Close())
		bytesNow, liveNow := hiptest.InUse(inner)
		require.Equal(t, []any{bytes, live}, []any{bytesNow, liveNow}, failed)
		return failed
	})
	requireKinds(t, kinds, "launch widen_bf16", "read")
}

// TestForwardFaultsBelowLen: rows of a module that a failed call did not write are not
// there, whatever other modules have at their positions.
func TestForwardFaultsBelowLen(t *testing.T) {
	const n, half = 9, 5
	x := randomPassage(403, n)
	f := &faulty{Device: openDevice(t, hip.NewReference()), failIn: -1}
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Device: f})
	cache := newCache(t, head, 8)
	begin := func() *mtp.Sequence {
		s := cache.NewSequence()
		forward(t, head, x.batch(s, 0, n), 0)
		return s
	}
	s := begin()
	want := forward(t, head, x.batch(s, half, n), 1) // after a hole
	require.NoError(t, s.Close())
	eachFault(t, 2000, func(at int) string {
		s := begin()
		defer s.Close()
		f.arm(at)
		_, err := head.Forward(t.Context(), x.batch(s, 0, half), 1)
		failed := f.disarm()
		if failed == "" {
			require.NoError(t, err)
			return ""
		}
		require.ErrorIs(t, err, errDevice, failed)
		require.Equal(t, n, s.Len())
		require.Equal(t, want, forward(t, head, x.batch(s, half, n), 1), failed)
		return failed
	})
}
