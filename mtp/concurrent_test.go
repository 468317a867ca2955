package mtp_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// TestConcurrentDrafts: goroutines with a sequence each, on one head and one
// cache, draft what each drafts alone.
func TestConcurrentDrafts(t *testing.T) {
	const goroutines, n, step = 6, 24, 5
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			options := c.options()
			options.Device = openDevice(t, hip.NewHost(3))
			head := load(t, synthetic{modules: c.modules, format: "MXFP8"}.files(t), options)
			cache := newCache(t, head, goroutines*9)
			rounds := func(i int) (all []drafted, err error) {
				x, s := randomPassage(uint64(600+i), n), cache.NewSequence()
				for end := step; end <= n; end += step {
					drafts, err := draftOf(t.Context(), head, x.batch(s, s.Len(), end), 1+i%4)
					if err != nil {
						return nil, err
					}
					all = append(all, drafts)
				}
				return all, s.Close()
			}
			want := make([][]drafted, goroutines)
			for i := range want {
				var err error
				want[i], err = rounds(i)
				require.NoError(t, err)
			}
			got, errs := make([][]drafted, goroutines), make([]error, goroutines)
			var group sync.WaitGroup
			for i := range got {
				group.Go(func() { got[i], errs[i] = rounds(i) })
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
			require.Equal(t, want, got)
			require.Equal(t, cache.Pages(), cache.FreePages())
		})
	}
}

// TestConcurrentMethods: the other methods beside drafts, and caches that come and go.
func TestConcurrentMethods(t *testing.T) {
	const n = 9
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Device: openDevice(t, hip.NewHost(2))})
	x := randomPassage(610, n)
	want, err := head.Logits(t.Context(), mtp.Hidden{Float32: x.hidden}, nil, 1)
	require.NoError(t, err)
	errs := make([]error, 6)
	var group sync.WaitGroup
	for i := range errs {
		group.Go(func() {
			for range 5 {
				cache, err := head.NewCache(3 + i)
				if err != nil {
					errs[i] = err
					return
				}
				s := cache.NewSequence()
				_, draftErr := draftOf(t.Context(), head, x.batch(s, 0, n), 3)
				_, embedErr := head.Embed(t.Context(), x.tokens)
				logits, err := head.Logits(t.Context(), mtp.Hidden{Float32: x.hidden}, nil, 1)
				for j := range logits {
					if logits[j] != want[j] {
						err = errors.New("logits differ")
					}
				}
				errs[i] = errors.Join(errs[i], draftErr, embedErr, err, s.Close(), cache.Close())
			}
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
}

// TestCloseWaits: a head that is closed while drafts run lets them end, refuses
// the next ones, and leaves nothing.
func TestCloseWaits(t *testing.T) {
	d := openDevice(t, hip.NewHost(2))
	head := load(t, synthetic{modules: 3}.files(t), mtp.Options{Device: d})
	cache := newCache(t, head, 32)
	const goroutines, n = 4, 8
	var started, group sync.WaitGroup
	started.Add(goroutines)
	errs := make([]error, goroutines)
	for i := range errs {
		group.Go(func() {
			x := randomPassage(uint64(620+i), n)
			for round := 0; ; round++ {
				s := cache.NewSequence()
				if _, err := draftOf(context.Background(), head, x.batch(s, 0, n), 3); err != nil {
					errs[i] = err
					if round == 0 {
						started.Done()
					}
					return
				}
				if round == 0 {
					started.Done()
				}
				_ = s.Close() // after the cache's Close as well
			}
		})
	}
	started.Wait()
	require.NoError(t, head.Close())
	group.Wait()
	for _, err := range errs {
		require.ErrorIs(t, err, mtp.ErrClosed)
	}
	requireEmpty(t, d)
}

// TestCloseDuringForward: Close and Cache.Close begin while a Forward is inside
// of a stage, and end after it.
func TestCloseDuringForward(t *testing.T) {
	const n = 6
	for name, closing := range map[string]func(*mtp.Head, *mtp.Cache) error{
		"head":  func(h *mtp.Head, _ *mtp.Cache) error { return h.Close() },
		"cache": func(_ *mtp.Head, c *mtp.Cache) error { return c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			head := load(t, synthetic{}.files(t), mtp.Options{})
			cache, x := newCache(t, head, 4), randomPassage(630, n)
			want := forward(t, head, x.batch(cache.NewSequence(), 0, n), 0)
			closed := make(chan error, 1)
			var once sync.Once
			b := x.batch(cache.NewSequence(), 0, n)
			b.Observe = func(mtp.Stage) {
				once.Do(func() {
					begun := make(chan struct{})
					go func() {
						close(begun)
						closed <- closing(head, cache)
					}()
					<-begun
					for range 100 {
						runtime.Gosched()
					}
				})
				require.Empty(t, closed, "closed under a call")
			}
			require.Equal(t, want, forward(t, head, b, 0))
			require.NoError(t, <-closed)
			_, err := draftOf(t.Context(), head, x.batch(cache.NewSequence(), 0, n), 1)
			require.ErrorIs(t, err, mtp.ErrClosed)
		})
	}
}

// TestClosedUse: everything says that it is closed.
func TestClosedUse(t *testing.T) {
	head := load(t, synthetic{}.files(t), mtp.Options{})
	cache, x := newCache(t, head, 4), randomPassage(640, 6)
	s := cache.NewSequence()
	draft(t, head, x.batch(s, 0, 5), 2)
	closed := cache.NewSequence()
	require.NoError(t, closed.Close())
	require.NoError(t, closed.Close(), "a second time")
	for name, err := range map[string]error{
		"Reserve": closed.Reserve(1), "Truncate": closed.Truncate(0), "Fork": second(closed.Fork()),
	} {
		require.ErrorIs(t, err, mtp.ErrClosed, name)
	}
	require.NoError(t, cache.Close())
	require.ErrorIs(t, s.Reserve(4), mtp.ErrClosed)
	require.NoError(t, s.Close())
	require.NoError(t, head.Close())
	hidden := mtp.Hidden{Float32: x.states(0, 1)}
	_, draftErr := draftOf(t.Context(), head, x.batch(s, 0, 1), 1)
	for name, err := range map[string]error{
		"Draft": draftErr, "Forward": second(head.Forward(t.Context(), x.batch(s, 0, 1), 0)),
		"Logits": second(head.Logits(t.Context(), hidden, nil, 0)), "FinalNorm": second(head.FinalNorm(t.Context(), hidden, nil, 0)),
		"Embed": second(head.Embed(t.Context(), []int32{1})), "NewCache": second(head.NewCache(1)), "Cache.Close": cache.Close(), "Close": head.Close(),
	} {
		require.ErrorIs(t, err, mtp.ErrClosed, name)
	}
}

// TestDraftCanceled: a context that ends inside of a chain ends the draft
// before its next step, with the sequences as they were.
func TestDraftCanceled(t *testing.T) {
	const n = 10
	for _, c := range chainCases {
		t.Run(c.name, func(t *testing.T) {
			head := load(t, synthetic{modules: c.modules}.files(t), c.options())
			cache, x := newCache(t, head, 10), randomPassage(650, n)
			good := cache.NewSequence()
			draft(t, head, x.batch(good, 0, 6), 2)
			want := draft(t, head, x.batch(good, 6, n), 4)
			for _, steps := range []int{1, 2, 3} {
				s := cache.NewSequence()
				draft(t, head, x.batch(s, 0, 6), 2)
				free := cache.FreePages()
				ctx, cancel := context.WithCancel(t.Context())
				ran := 0
				b := x.batch(s, 6, n)
				b.Observe = func(stage mtp.Stage) {
					if stage.Name == "hidden" {
						if ran++; ran == steps {
							cancel()
						}
					}
				}
				_, err := draftOf(ctx, head, b, 4)
				cancel()
				require.ErrorIs(t, err, context.Canceled)
				require.Equal(t, []int{steps, 6, free}, []int{ran, s.Len(), cache.FreePages()})
				require.Equal(t, want, draft(t, head, x.batch(s, 6, n), 4))
				require.NoError(t, s.Close())
			}
		})
	}
}

// TestEveryMethodBesideClose: whatever is called while a head or a cache closes returns
// what it would have, or ErrClosed, or nothing.
func TestEveryMethodBesideClose(t *testing.T) {
	const n = 5
	x := randomPassage(620, n)
	for _, closing := range []string{"head", "cache"} {
		t.Run(closing, func(t *testing.T) {
			head := load(t, synthetic{modules: 1}.files(t), mtp.Options{})
			cache := newCache(t, head, 64)
			hidden := mtp.Hidden{Float32: x.states(0, 1)}
			ctx := t.Context()
			methods := []func() error{
				func() error { return second(head.NewCache(1)) },
				func() error { return second(head.Draft(ctx, withDrafts(x.batch(cache.NewSequence(), 0, n), 2))) },
				func() error { return second(head.Forward(ctx, x.batch(cache.NewSequence(), 0, n), 0)) },
				func() error { return second(head.Logits(ctx, hidden, nil, 0)) },
				func() error { return second(head.FinalNorm(ctx, hidden, nil, 0)) },
				func() error { return second(head.Embed(ctx, []int32{1})) },
				func() error { _, _, err := head.TopK(ctx, hidden, nil, 0, 2); return err },
				func() error {
					head.Matrix(lmHeadName)
					head.DraftLMHead()
					return nil
				},
				func() error { head.Config(); head.Report(); head.Device(); return nil },
				func() error { cache.Pages(); cache.FreePages(); cache.Bytes(); return nil },
				func() error { _, _, err := cache.Buffers(0); return err },
				func() error { return cache.NewSequence().Reserve(n) },
				func() error {
					s := cache.NewSequence()
					_, err := head.Draft(ctx, withDrafts(x.batch(s, 0, n), 0))
					fork, forkErr := s.Fork()
					if forkErr == nil {
						forkErr = errors.Join(fork.Reserve(1), fork.Truncate(0), fork.Close())
					}
					s.Len()
					s.BlockTable()
					return errors.Join(err, forkErr, s.Close())
				},
			}
			var group sync.WaitGroup
			errs := make([]error, len(methods))
			running := make(chan struct{}, len(methods))
			for i, method := range methods {
				group.Go(func() {
					for range 20 {
						if err := method(); err != nil && !errors.Is(err, mtp.ErrClosed) && !errors.Is(err, attention.ErrCacheFull) {
							errs[i] = err
						}
						select {
						case running <- struct{}{}:
						default:
						}
					}
				})
			}
			<-running
			if closing == "head" {
				require.NoError(t, head.Close())
			} else {
				require.NoError(t, cache.Close())
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
		})
	}
}
