package mtp_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// capturer is what a device has that records graphs.
type capturer interface {
	Capture(record func(d hip.Device) error) (launch, release func() error, err error)
}

// sharer is a device whose kernels reach memory of the host, at an address of its own.
type sharer interface {
	AllocShared(n int64) (hip.Ptr, []byte, error)
}

// watched is a device that records graphs and counts what it is asked for.
type watched struct {
	hip.Device
	sharer
	launches, writes, reads, captures atomic.Int64
}

func watch(d hip.Device) *watched {
	return &watched{Device: d, sharer: ability[sharer](d)}
}

func (w *watched) Compile(ctx context.Context, kernels ...*hip.Kernel) error {
	return hip.Compile(ctx, w.Device, kernels...)
}

func (w *watched) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	w.launches.Add(1)
	return w.Device.Launch(k, grid, args)
}

func (w *watched) Write(dst hip.Ptr, src []byte) error {
	w.writes.Add(1)
	return w.Device.Write(dst, src)
}

func (w *watched) Read(dst []byte, src hip.Ptr) error {
	w.reads.Add(1)
	return w.Device.Read(dst, src)
}

func (w *watched) Capture(record func(d hip.Device) error) (launch, release func() error, err error) {
	w.captures.Add(1)
	return ability[capturer](w.Device).Capture(record)
}

// TestGraphs: a text is drafted round by round as on the reference, whatever the
// chain. Once a shape came twice, a call is graphs and nothing else.
func TestGraphs(t *testing.T) {
	const prompt, k = 12, 3                       // the prompt makes room for what follows
	rounds := []int{1, 1, 1, 2, 3, 1, 2, 2, 3, 1} // rows confirmed
	x, y := randomPassage(77, 40), randomPassage(78, 40)
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		for i, c := range []chainCase{chainCases[0], chainCases[6], chainCases[8]} {
			t.Run(c.name, func(t *testing.T) {
				files := synthetic{modules: c.modules}.files(t)
				device := watch(d)
				options := c.options()
				if i == 0 {
					for id := int32(1); id < vocabSize; id += 3 {
						options.DraftVocabulary = append(options.DraftVocabulary, id)
					}
				}
				want := load(t, files, options)
				options.Device = device
				got := load(t, files, options)
				defer func() {
					require.NoError(t, got.Close())
					requireEmpty(t, d)
				}()
				other, cache := newCache(t, want, 40), newCache(t, got, 40)
				sx := [2]*mtp.Sequence{other.NewSequence(), cache.NewSequence()}
				at, came := 0, map[int]int{}
				for i, n := range append([]int{prompt}, rounds...) {
					device.launches.Store(0)
					device.writes.Store(0)
					device.reads.Store(0)
					reference := draft(t, want, x.batch(sx[0], at, at+n), k)
					graph := draft(t, got, x.batch(sx[1], at, at+n), k)
					require.Equal(t, reference.ids(), graph.ids(), "round %d", i)
					require.NoError(t, hiptest.Within(graph.probs()[0], reference.probs()[0], 1e-4))
					at += n
					if came[n]++; came[n] > 2 && at > 2*k {
						require.Zero(t, device.launches.Load(), "round %d", i)
						require.Equal(t, []int64{0, 0}, []int64{device.writes.Load(), device.reads.Load()}, "round %d", i)
					}
				}
				require.Positive(t, device.captures.Load())

				// Another batch, and then the first shape again.
				more := [2]*mtp.Sequence{other.NewSequence(), cache.NewSequence()}
				for range 3 {
					reference := draft(t, want, join(x.batch(sx[0], at, at+1), y.batch(more[0], more[0].Len(), more[0].Len()+2)), k)
					graph := draft(t, got, join(x.batch(sx[1], at, at+1), y.batch(more[1], more[1].Len(), more[1].Len()+2)), k)
					require.Equal(t, reference.ids(), graph.ids())
					at++
				}
			})
		}
	})
}

// TestGraphsOfSteps: where probabilities end a chain, each step is a graph.
func TestGraphsOfSteps(t *testing.T) {
	const n, k = 6, 4
	x, y := randomPassage(79, 30), randomPassage(80, 30)
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		for _, c := range []chainCase{chainCases[1], chainCases[7]} {
			t.Run(c.name, func(t *testing.T) {
				files := synthetic{modules: c.modules}.files(t)
				device := watch(d)
				options := c.options()
				sequences := func(head *mtp.Head) [2]*mtp.Sequence {
					cache := newCache(t, head, 40)
					return [2]*mtp.Sequence{cache.NewSequence(), cache.NewSequence()}
				}
				free := load(t, files, options)
				s := sequences(free)
				probs := slices.Sorted(slices.Values(slices.Concat(draft(t, free, join(x.batch(s[0], 0, n), y.batch(s[1], 0, n)), k).probs()...)))
				least := 0.99 * float64(probs[len(probs)/2])
				want := load(t, files, options)
				options.Device = device
				got := load(t, files, options)
				defer func() { require.NoError(t, got.Close()) }()
				of, on := sequences(want), sequences(got)
				ended := false
				for at := 0; at < 5*n; at += n {
					reference := draft(t, want, atLeast(join(x.batch(of[0], at, at+n), y.batch(of[1], at, at+n)), least), k)
					graph := draft(t, got, atLeast(join(x.batch(on[0], at, at+n), y.batch(on[1], at, at+n)), least), k)
					require.Equal(t, reference.ids(), graph.ids(), "from position %d", at)
					ended = ended || len(graph.ids()[0]) != len(graph.ids()[1])
				}
				require.True(t, ended, "sequences ended at different steps")
				require.Positive(t, device.captures.Load())
			})
		}
	})
}

// idle is a device that computes nothing.
type idle struct{ hip.Device }

func (d idle) Launch(*hip.Kernel, hip.Grid, unsafe.Pointer) error { return nil }
func (d idle) AllocShared(n int64) (hip.Ptr, []byte, error) {
	p, err := d.Alloc(n)
	return p, make([]byte, n), err
}
func (d idle) Capture(record func(d hip.Device) error) (launch, release func() error, err error) {
	nothing := func() error { return nil }
	return nothing, nothing, record(d)
}

// BenchmarkDraftHost is what a chain costs beside the device's own time: the calls
// of the driver, which come on top, are two graphs and a wait, and most of the host's
// part of a longer chain is done while the device works.
func BenchmarkDraftHost(b *testing.B) {
	for _, k := range []int{1, 4} {
		b.Run(fmt.Sprintf("k=%d", k), func(b *testing.B) {
			head := load(b, synthetic{modules: 1}.files(b), mtp.Options{Device: idle{openDevice(b, hip.NewReference())}})
			s, x := newCache(b, head, 40).NewSequence(), randomPassage(1, 2)
			for b.Loop() {
				draft(b, head, x.batch(s, 0, 1), k)
				require.NoError(b, s.Truncate(0))
			}
		})
	}
}
