package mtp_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// TestEveryFreeFailsOnce: memory that the device once did not take back is given back by
// the next Close.
func TestEveryFreeFailsOnce(t *testing.T) {
	const n = 6
	files, x := synthetic{modules: 2}.files(t), randomPassage(700, n)
	vocabulary := []int32{0, 3, 5}
	inner := openDevice(t, hip.NewReference())
	for n := 1; ; n++ {
		d := hiptest.NewFaulty(inner, errDevice)
		head := load(t, files, mtp.Options{Device: d, DraftVocabulary: vocabulary})
		cache, other := newCache(t, head, 8), newCache(t, head, 2)
		s := cache.NewSequence()
		draft(t, head, x.batch(s, 0, 5), 2)
		draft(t, head, x.batch(other.NewSequence(), 0, 3), 1) // closes the batch of the first cache
		d.FailAt(n, "free")
		err := other.Close()
		if err != nil {
			require.ErrorIs(t, err, errDevice)
			require.NoError(t, other.Close())
		}
		closed := head.Close()
		last := err == nil && closed == nil
		if closed != nil {
			require.ErrorIs(t, closed, errDevice)
			require.NoError(t, head.Close(), "%d", n)
		}
		require.ErrorIs(t, head.Close(), mtp.ErrClosed)
		requireEmpty(t, inner)
		if last {
			require.Greater(t, n, 40, "frees that failed")
			return
		}
	}
}

// TestFreeFailsBesideAnother: what a failed load or a failed NewCache took is given back,
// also where a Free fails.
func TestFreeFailsBesideAnother(t *testing.T) {
	files := synthetic{modules: 1}.files(t)
	inner := openDevice(t, hip.NewReference())
	d := hiptest.NewFaulty(inner, errDevice)
	ctx, cancel := context.WithCancel(t.Context())
	d.FailAt(1, "free")
	_, err := mtp.LoadFS(ctx, files, mtp.Options{Device: d, Progress: func(int64, int64) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	requireEmpty(t, inner)

	head := load(t, files, mtp.Options{Device: d})
	bytes, _ := hiptest.InUse(inner)
	for free := 1; free <= 3; free++ {
		fails := failing{d, func() { d.FailAt(1, "free") }, 3}
		_, err := attention.NewCache(&fails, head.Config().Attention, 1, 2, attention.CacheBF16)
		require.ErrorIs(t, err, hip.ErrOutOfMemory)
	}
	now, _ := hiptest.InUse(inner)
	require.Equal(t, bytes, now)
	require.NoError(t, head.Close())
}

// failing fails an Alloc, and the Free that follows.
type failing struct {
	hip.Device
	next func()
	left int
}

func (f *failing) Alloc(n int64) (hip.Ptr, error) {
	if f.left--; f.left == 0 {
		f.next()
		return 0, hip.ErrOutOfMemory
	}
	return f.Device.Alloc(n)
}

// TestObserverPanics: a panic that the caller recovers leaves sequences as they were, and
// everything is given back.
func TestObserverPanics(t *testing.T) {
	const n = 10
	x := randomPassage(701, n)
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			d := openDevice(t, hip.NewReference())
			options := c.options()
			options.Device = d
			head := load(t, synthetic{modules: c.modules}.files(t), options)
			cache := newCache(t, head, 10)
			good := cache.NewSequence()
			draft(t, head, x.batch(good, 0, 6), 2)
			want := draft(t, head, x.batch(good, 6, n), 3)
			s := cache.NewSequence()
			draft(t, head, x.batch(s, 0, 6), 2)
			before := []any{s.Len(), cache.FreePages(), s.BlockTable()}
			for _, at := range []int{1, 5, 20, 30} {
				seen := 0
				b := withDrafts(x.batch(s, 6, n), 3)
				b.Observe = func(mtp.Stage) {
					if seen++; seen == at {
						panic("observer")
					}
				}
				require.PanicsWithValue(t, "observer", func() { _, _ = head.Draft(t.Context(), b) })
				require.PanicsWithValue(t, "observer", func() { seen = at - 1; _, _ = head.Forward(t.Context(), b, 0) })
				require.Equal(t, before, []any{s.Len(), cache.FreePages(), s.BlockTable()})
			}
			require.Equal(t, want, draft(t, head, x.batch(s, 6, n), 3))
			require.NoError(t, head.Close(), "no call is under way")
			requireEmpty(t, d)
		})
	}
}

// TestProgressPanics, in each call of it.
func TestProgressPanics(t *testing.T) {
	files := synthetic{modules: 1}.files(t)
	d := openDevice(t, hip.NewReference())
	for at := 1; ; at++ {
		calls := 0
		options := mtp.Options{Device: d, DraftLMHead: weights.MXFP8, Progress: func(int64, int64) {
			if calls++; calls == at {
				panic("progress")
			}
		}}
		panicked := func() (value any) {
			defer func() { value = recover() }()
			head, err := mtp.LoadFS(t.Context(), files, options)
			require.NoError(t, err)
			require.NoError(t, head.Close())
			return nil
		}()
		requireEmpty(t, d)
		if panicked == nil {
			require.Greater(t, at, 2)
			return
		}
		require.Equal(t, "progress", panicked)
	}
}

// TestZeroValues are bad input.
func TestZeroValues(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	for _, s := range []*mtp.Sequence{nil, {}} {
		require.Zero(t, s.Len())
		require.Empty(t, s.BlockTable())
		require.ErrorIs(t, s.Reserve(1), mtp.ErrInput)
		require.ErrorIs(t, s.Truncate(0), mtp.ErrInput)
		require.ErrorIs(t, second(s.Fork()), mtp.ErrInput)
		require.NoError(t, s.Close())
	}
	require.ErrorIs(t, second(head.Draft(t.Context(), nil)), mtp.ErrInput)
	require.ErrorIs(t, second(head.Forward(t.Context(), nil, 0)), mtp.ErrInput)
	b := randomPassage(702, 3).batch(new(mtp.Sequence), 0, 3)
	require.ErrorIs(t, second(head.Draft(t.Context(), b)), mtp.ErrInput)
	require.ErrorIs(t, new(mtp.Cache).Close(), mtp.ErrInput)
	_, _, err := new(mtp.Cache).Buffers(0)
	require.ErrorIs(t, err, mtp.ErrInput)
	require.ErrorIs(t, second(new(mtp.Head).NewCache(1)), mtp.ErrInput)
}

// TestSelectedBlocksAreBounded: room is made for the blocks that there can be, whatever
// the config asks for, and the results are the same.
func TestSelectedBlocksAreBounded(t *testing.T) {
	const n = 12
	x := randomPassage(703, n)
	run := func(topk int) (drafted, map[string]mtp.Stage, int64) {
		d := openDevice(t, hip.NewReference())
		head := load(t, synthetic{topBlocks: topk}.files(t), mtp.Options{Device: d})
		cache := newCache(t, head, 16)
		stages := map[string]mtp.Stage{}
		b := x.batch(cache.NewSequence(), 0, n)
		want := forward(t, head, b, 0)
		bytes, _ := hiptest.InUse(d)
		b = x.batch(cache.NewSequence(), 0, n)
		if topk < 1<<10 {
			b.Observe = func(s mtp.Stage) { stages[s.Name] = s }
		}
		require.Equal(t, want, forward(t, head, b, 0))
		return draft(t, head, x.batch(cache.NewSequence(), 0, n), 3), stages, bytes
	}
	want, _, bytes := run(200)
	got, stages, _ := run(600)
	require.Equal(t, want, got)
	require.Equal(t, []int{n, 600}, []int{stages["selected_blocks"].Shape[0], stages["selected_blocks"].Shape[2]})
	selected := stages["selected_blocks"].Int32
	require.Len(t, selected, n*stages["selected_blocks"].Shape[1]*600)
	require.EqualValues(t, 0, selected[0])
	require.EqualValues(t, -1, selected[599])
	got, _, more := run(1 << 20)
	require.Equal(t, want, got)
	require.Less(t, more, bytes+1<<20)
}

// TestEveryMethodBesideEveryOther, on one sequence and one cache: a call returns what it
// would have returned alone, or that the sequence is in use.
func TestEveryMethodBesideEveryOther(t *testing.T) {
	const n, pages = 5, 40
	x := randomPassage(704, n)
	head := load(t, synthetic{modules: 1}.files(t), mtp.Options{Chain: mtp.ChainFirst})
	ctx := t.Context()
	type method struct {
		name string
		do   func(c *mtp.Cache, s *mtp.Sequence) error
	}
	methods := []method{
		{"Draft", func(_ *mtp.Cache, s *mtp.Sequence) error {
			return second(head.Draft(ctx, withDrafts(x.batch(s, 0, n), 2)))
		}},
		{"Forward", func(_ *mtp.Cache, s *mtp.Sequence) error { return second(head.Forward(ctx, x.batch(s, 0, n), 0)) }},
		{"Reserve", func(_ *mtp.Cache, s *mtp.Sequence) error { return s.Reserve(3) }},
		{"Truncate", func(_ *mtp.Cache, s *mtp.Sequence) error { return s.Truncate(0) }},
		{"Fork", func(_ *mtp.Cache, s *mtp.Sequence) error {
			fork, err := s.Fork()
			if err != nil {
				return err
			}
			return errors.Join(fork.Reserve(1), fork.Close())
		}},
		{"Sequence.Close", func(_ *mtp.Cache, s *mtp.Sequence) error { return s.Close() }},
		{"Len", func(_ *mtp.Cache, s *mtp.Sequence) error { s.Len(); s.BlockTable(); return nil }},
		{"NewSequence", func(c *mtp.Cache, _ *mtp.Sequence) error { return c.NewSequence().Close() }},
		{"Pages", func(c *mtp.Cache, _ *mtp.Sequence) error {
			c.Pages()
			c.FreePages()
			c.Bytes()
			return nil
		}},
		{"Buffers", func(c *mtp.Cache, _ *mtp.Sequence) error { _, _, err := c.Buffers(0); return err }},
		{"Cache.Close", func(c *mtp.Cache, _ *mtp.Sequence) error { return c.Close() }},
		{"NewCache", func(*mtp.Cache, *mtp.Sequence) error {
			c, err := head.NewCache(1)
			if err != nil {
				return err
			}
			return c.Close()
		}},
	}
	for i, a := range methods {
		for _, b := range methods[i:] {
			cache := newCache(t, head, pages)
			s := cache.NewSequence()
			var group sync.WaitGroup
			errs := make([]error, 2)
			for i, m := range []method{a, b} {
				group.Go(func() {
					for range 5 {
						err := m.do(cache, s)
						if err != nil && !errors.Is(err, mtp.ErrInUse) && !errors.Is(err, mtp.ErrClosed) && !errors.Is(err, mtp.ErrInput) {
							errs[i] = fmt.Errorf("%s: %w", m.name, err)
						}
					}
				})
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
			if err := s.Close(); err == nil && a.name != "Cache.Close" && b.name != "Cache.Close" {
				require.Equal(t, pages, cache.FreePages(), "%s beside %s: pages are free or a sequence's", a.name, b.name)
			}
			if err := cache.Close(); err != nil {
				require.ErrorIs(t, err, mtp.ErrClosed)
			}
		}
	}
}
