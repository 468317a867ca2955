package mtp_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// soakTime lets TestSoak go on:
//
//	go test -race -run 'TestSoak$' -timeout 0 -v ./mtp -soak 15m
var soakTime = flag.Duration("soak", 0, "how long TestSoak goes on, at least once over all rules")

// Sizes of a soak.
const (
	soakRows    = 30 // of a passage
	soakDrafts  = 4  // of the longest chain
	soakWorkers = 3
	soakSteps   = 25   // of a worker in a round of a long soak
	soakTalks   = 5    // most sequences that a worker has at a time
	soakOff     = 2e-5 // of probabilities and hidden states, from the oracle's
	soakTie     = 1e-4 // a choice as close as this may be another in float32
)

// TestSoak: goroutines that share a head commit, draft, truncate, fork, preempt, cancel and
// close sequences and caches, draw drafts under masks, verify them and move sequences between
// heads at random, and every result is the float64 oracle's. Each
// round has a checkpoint, a device and passages of its own, and leaves nothing.
func TestSoak(t *testing.T) {
	devices := []func() hip.Device{
		func() hip.Device { return hip.NewHost(2) },
		func() hip.Device { return hip.NewReference() },
		func() hip.Device { return hip.Check(hip.NewHost(2)) },
	}
	formats := []string{"F32", "MXFP8", "BF16"}
	start, count := time.Now(), soakCount{steps: map[string]int{}}
	var before, most footprint
	for round := 0; round < len(chainCases) || time.Since(start) < *soakTime; round++ {
		c := chainCases[round%len(chainCases)]
		lap := round / len(chainCases)
		ok := t.Run(c.name, func(t *testing.T) {
			layout := synthetic{modules: c.modules, format: formats[(round+lap)%3], seed: uint64(round), bundled: round%2 == 1}
			soakRound(t, c, layout, devices[(round+lap/3)%3](), uint64(round), &count)
		})
		if !ok {
			return
		}
		now := footprintOf(t)
		if round == 0 {
			before = now
		}
		now.requireLike(t, before)
		most = most.larger(now)
		count.rounds++
	}
	require.Less(t, count.ties.Load(), 1+count.drafts.Load()/100, "choices too close to tell")
	t.Logf("%d rounds, steps %v", count.rounds, count.steps)
	t.Logf("%d drafts and %d rows of hidden states compared, %d too close to tell, 0 wrong; caches were full %d times",
		count.drafts.Load(), count.rows.Load(), count.ties.Load(), count.full.Load())
	t.Logf("%d drafts drawn, %d chains verified as on the reference", count.drawn.Load(), count.verified.Load())
	t.Logf("after the first round %v, at most %v", before, most)
}

// soakCount is what a soak did.
type soakCount struct {
	rounds                   int
	steps                    map[string]int
	drafts, rows, ties, full atomic.Int64
	drawn, verified          atomic.Int64 // drafts, and chains
}

// soak is one round.
type soak struct {
	head  *mtp.Head
	truth *truth
	cache *mtp.Cache // of all workers, with too few pages for all
	other *mtp.Head  // of the same checkpoint on the reference: it takes sequences over, and verifies
	guest *mtp.Cache // of other
	count *soakCount
}

// soakRound lets several goroutines work on one head.
func soakRound(t *testing.T, c chainCase, layout synthetic, d hip.Device, seed uint64, count *soakCount) {
	dir := layout.folder(t)
	options := c.options()
	options.Device = openDevice(t, d)
	r := &soak{head: load(t, os.DirFS(dir), options), count: count}
	options.Device = openDevice(t, hip.NewReference())
	r.other = load(t, os.DirFS(dir), options)
	r.guest = newCache(t, r.other, soakWorkers*(soakRows+soakDrafts+blockSize)/blockSize)
	r.truth = newTruth(oracle(t, os.DirFS(dir)), c, 1000*seed, 6, soakRows)
	r.cache = newCache(t, r.head, soakWorkers*soakTalks*soakRows/blockSize/4)
	workers, errs := make([]*soaker, soakWorkers), make([]error, soakWorkers)
	var group sync.WaitGroup
	for i := range workers {
		w := &soaker{soak: r, random: rand.New(rand.NewPCG(seed, uint64(10+i))), cache: r.cache, steps: map[string]int{}}
		workers[i] = w
		group.Go(func() { errs[i] = w.work(t.Context()) })
	}
	group.Wait()
	for i, w := range workers {
		require.NoError(t, errs[i], "worker %d of seed %d after %s", i, seed, strings.Join(w.last, ", "))
		for name, n := range w.steps {
			count.steps[name] += n
		}
	}
	require.Equal(t, r.cache.Pages(), r.cache.FreePages())
	require.Equal(t, r.guest.Pages(), r.guest.FreePages())
	for _, head := range []*mtp.Head{r.head, r.other} {
		d := head.Device()
		require.NoError(t, head.Close())
		requireEmpty(t, d)
	}
	require.Zero(t, mappedBelow(t, dir), "a mapping is left")
}

// soaker is one goroutine of a round.
type soaker struct {
	*soak
	random *rand.Rand
	cache  *mtp.Cache // soak.cache or its own
	talks  []*talk
	steps  map[string]int
	last   []string // steps, to find out what went wrong
}

// talk is a sequence that holds the first rows of a passage.
type talk struct {
	seq        *mtp.Sequence
	text, rows int
}

func (w *soaker) work(ctx context.Context) error {
	all := 0
	for _, s := range soakTable {
		all += s.weight
	}
	for range w.turns() {
		at := w.random.IntN(all)
		i := 0
		for ; at >= soakTable[i].weight; i++ {
			at -= soakTable[i].weight
		}
		s := &soakTable[i]
		w.steps[s.name]++
		if w.last = append(w.last, s.name); len(w.last) > 12 {
			w.last = w.last[1:]
		}
		if err := s.do(w, ctx); err != nil {
			return err
		}
	}
	for _, x := range w.talks {
		if err := x.seq.Close(); err != nil {
			return err
		}
	}
	if w.cache != w.soak.cache {
		return w.cache.Close()
	}
	return nil
}

// turns is how many steps a worker takes in a round.
func (w *soaker) turns() int {
	switch {
	case *soakTime > 0:
		return soakSteps
	case hiptest.RaceDetector:
		return soakSteps / 4
	}
	return soakSteps / 2
}

// full reports whether err is for want of pages, which only the shared cache may lack. One
// of the worker's sequences then ends.
func (w *soaker) full(err error) (bool, error) {
	if !errors.Is(err, attention.ErrCacheFull) || w.cache != w.soak.cache {
		return false, err
	}
	if w.count.full.Add(1); len(w.talks) == 0 { // others have all pages
		return true, nil
	}
	return true, w.drop(w.random.IntN(len(w.talks)))
}

// drop closes a sequence.
func (w *soaker) drop(i int) error {
	x := w.talks[i]
	w.talks = slices.Delete(w.talks, i, i+1)
	return x.seq.Close()
}

// talk returns a random sequence with fewer rows than below, a new one if there is none.
func (w *soaker) talk(below int) *talk {
	var some []*talk
	for _, x := range w.talks {
		if x.rows < below {
			some = append(some, x)
		}
	}
	if len(some) == 0 || len(w.talks) < soakTalks && w.random.IntN(8) == 0 {
		if len(w.talks) == soakTalks {
			_ = w.drop(0)
		}
		x := &talk{seq: w.cache.NewSequence(), text: w.random.IntN(len(w.truth.passages))}
		w.talks = append(w.talks, x)
		return x
	}
	return some[w.random.IntN(len(some))]
}

// continuation returns a passage that begins with the first n rows of another.
func (w *soaker) continuation(text, n int) int {
	var some []int
	for p := range w.truth.passages {
		if w.truth.common(text, p) >= n {
			some = append(some, p)
		}
	}
	return some[w.random.IntN(len(some))]
}

// footprint is what a process holds.
type footprint struct {
	goroutines, files, mappings int
	heap, total                 uint64
}

func footprintOf(t *testing.T) (f footprint) {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.heap, f.total, f.goroutines = m.HeapAlloc, m.Sys, goroutines()
	if runtime.GOOS == "linux" {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		maps, err := os.ReadFile("/proc/self/maps")
		require.NoError(t, err)
		f.files, f.mappings = len(entries), strings.Count(string(maps), "\n")
	}
	return f
}

// requireLike checks that nothing has grown. Go's runtime maps memory in its own way, so
// that mappings and the heap may differ by a little.
func (f footprint) requireLike(t *testing.T, before footprint) {
	requireGoroutines(t, before.goroutines)
	require.LessOrEqual(t, f.files, before.files, "open files")
	require.LessOrEqual(t, f.mappings, before.mappings+64, "mappings")
	require.LessOrEqual(t, f.heap, before.heap+8<<20, "bytes of the heap")
}

func (f footprint) larger(g footprint) footprint {
	return footprint{max(f.goroutines, g.goroutines), max(f.files, g.files), max(f.mappings, g.mappings), max(f.heap, g.heap), max(f.total, g.total)}
}

func (f footprint) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, %d mappings, %.1f MB of heap, %.0f MB from the system",
		f.goroutines, f.files, f.mappings, float64(f.heap)/1e6, float64(f.total)/1e6)
}
