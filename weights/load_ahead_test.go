package weights

import (
	"context"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestAhead reads random areas part by part: what lies within a window of where a read
// begins was asked for before it, and during it a window beyond its end; once and in
// order, and in the end the pages of all areas and no others.
func TestAhead(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 1))
	page := int64(os.Getpagesize())
	tight := 0
	for i := range 100 {
		areas := randomAreas(r)
		if i == 0 {
			areas = narrowAreas()
		}
		rec := &recorder{t: t}
		shuffled := slices.Clone(areas)
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		h := newAhead(shuffled, rec.ask)
		require.Empty(t, rec.spans, "nothing before it is told to")
		h.until(aheadWindow)
		var want []span
		for i := range areas {
			a := &areas[i]
			first := a.tensor.Offset() + a.start
			want = append(want, span{a.tensor.File(), first, first + a.extent()})
			for off := int64(0); off < a.bytes(); {
				n := min(1+r.Int64N(uploadChunk), a.bytes()-off)
				at, last := a.place(off), a.place(off+n-1)+1
				require.True(t, rec.holds(a.tensor.File(), first, min(last, at+aheadWindow-page)), "asked for before it is read")
				h.beyond(a.tensor.File(), a.place(off+n))
				read := h.position(a.tensor.File(), last)
				require.GreaterOrEqual(t, rec.bytes, min(h.total(), read+aheadWindow))
				// A row's end and the next row's start are up to a stride apart.
				require.LessOrEqual(t, rec.bytes, read+a.stride+aheadWindow+aheadStep)
				if rec.bytes < h.total() {
					tight++
				}
				off += n
			}
		}
		h.until(h.total())
		require.Equal(t, h.total(), rec.bytes)
		requirePages(t, want, rec)
	}
	require.Greater(t, tight, 500, "few of the areas reach beyond a window")
}

// TestAheadByManyGoroutines: while one goroutine asks, others go on, and what they wanted is
// asked for later, once.
func TestAheadByManyGoroutines(t *testing.T) {
	areas := narrowAreas()
	rec := &recorder{t: t}
	asking, asked := make(chan struct{}, 1), make(chan struct{})
	h := newAhead(areas, func(f *safetensors.File, begin, end int64) {
		select {
		case asking <- struct{}{}: // the first
			<-asked
		default:
		}
		rec.ask(f, begin, end)
	})
	var group sync.WaitGroup
	group.Go(func() { h.beyond(areas[0].tensor.File(), areas[0].place(0)) })
	for len(asking) == 0 {
		runtime.Gosched()
	}
	h.beyond(areas[0].tensor.File(), areas[0].place(areas[0].bytes()/2)) // and returns
	close(asked)
	group.Wait()
	for i := range 4 {
		group.Go(func() { h.beyond(areas[0].tensor.File(), areas[0].place(areas[0].bytes()*int64(i)/4)) })
	}
	group.Wait()
	h.until(h.total())
	require.Equal(t, h.total(), rec.bytes)
}

// TestAheadOfNothing: no areas, and files that none lies in.
func TestAheadOfNothing(t *testing.T) {
	rec := &recorder{t: t}
	h := newAhead(nil, rec.ask)
	h.until(aheadWindow)
	h.beyond(hollowFile("x", 0), 5)
	require.Zero(t, h.total())
	require.Empty(t, rec.spans)
}

// loadRecorded loads a rank's share of experts and records what is asked for.
func loadRecorded(t *testing.T, ctx context.Context, plan *Plan, d hip.Device, progress func(done, total int64)) (*recorder, error) {
	t.Helper()
	rec := &recorder{t: t}
	m := newMover(ctx, d, plan.report.Bytes, false, progress)
	m.ask = rec.ask
	err := m.all(plan)
	require.NoError(t, m.loaded.Close())
	return rec, err
}

// expertPlan plans a rank that holds half of the experts, of a checkpoint on disk whose
// tensors are several pages.
func expertPlan(t *testing.T) (*Plan, *safetensors.Folder, []Param) {
	t.Helper()
	h := smallHead
	h.hidden, h.inner, h.experts = 256, 128, 4
	s := synthesize(headOf(t, h, Parallel{}), mixed)
	c := openHead(t, os.DirFS(onDisk(t, s.files(2))))
	params := headOf(t, h, Parallel{Expert: Shard{1, 2}})
	plan, err := NewPlan(c, params)
	require.NoError(t, err)
	return plan, c, params
}

// TestLoadAsksForWhatItLoads: a rank asks for its own tensors, and for none of another
// rank's experts but for the pages that they share.
func TestLoadAsksForWhatItLoads(t *testing.T) {
	plan, c, params := expertPlan(t)
	host := hip.NewReference()
	defer host.Close()
	held := make(map[string]bool)
	vectors := make(map[string]bool)
	for _, p := range params {
		for _, part := range p.Parts {
			held[part.Tensor] = part.keepRows().Len() > 0
			vectors[part.Tensor] = p.vector()
		}
	}
	var all, wanted, ofVectors []span
	for _, tensor := range c.Tensors() {
		weight := strings.TrimSuffix(tensor.Name, "_scale_inv")
		s := span{tensor.File(), tensor.Offset(), tensor.Offset() + tensor.Size()}
		all = append(all, s)
		if held[weight] {
			wanted = append(wanted, s)
		}
		if vectors[weight] {
			ofVectors = append(ofVectors, s)
		}
	}
	require.Less(t, pageCount(pages(wanted)), pageCount(pages(all))*2/3, "there is enough that is not loaded")
	for _, d := range []hip.Device{bare{host}, filling{hiptest.NewFaulty(host, errFault)}} {
		rec, err := loadRecorded(t, t.Context(), plan, d, nil)
		require.NoError(t, err)
		requirePages(t, wanted, rec)
	}
	if runtime.GOOS != "windows" {
		rec, err := loadRecorded(t, t.Context(), plan, host, nil)
		require.NoError(t, err)
		requirePages(t, ofVectors, rec) // what is used in place is not read
	}
}

// TestLoadAsksNoMoreOnceItEnds: a load that is canceled, or whose device fails, leaves
// nothing running. The race detector sees who would still write to the recorder.
func TestLoadAsksNoMoreOnceItEnds(t *testing.T) {
	plan, _, _ := expertPlan(t)
	host := hip.NewReference()
	defer host.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rec, err := loadRecorded(t, ctx, plan, filling{hiptest.NewFaulty(host, errFault)}, nil)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, rec.spans)
	for n := 1; n < 24; n += 3 {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		rec, err := loadRecorded(t, ctx, plan, filling{hiptest.NewFaulty(host, errFault)}, func(int64, int64) {
			if calls++; calls == n {
				cancel()
			}
		})
		cancel()
		require.ErrorIs(t, err, context.Canceled)
		require.NotEmpty(t, rec.spans)

		failing := hiptest.NewFaulty(host, errFault)
		failing.FailAt(1+n%20, "fill")
		rec, err = loadRecorded(t, t.Context(), plan, filling{failing}, nil)
		require.ErrorIs(t, err, errFault)
		require.NotEmpty(t, rec.spans)
		require.Equal(t, [2]int64{}, inUse(host))
	}
}

// TestReadWaitsForAsking: a read asks for the window after it, and returns only when
// that is done, also if it fails.
func TestReadWaitsForAsking(t *testing.T) {
	broken := false
	c := openHead(t, shrinking{inMap(map[string][]byte{"a.safetensors": buildFile(bytePart("t", "0123456789"))}), &broken})
	tensor, _ := c.Tensor("t")
	first := area{tensor: tensor, width: 10, stride: 10, rows: 1}
	const far = 4 * aheadWindow
	beyond := hollowFile("b.safetensors", 0, far)
	second := area{tensor: beyond.Tensors()[0], width: far, stride: far, rows: 1}
	for _, broken = range []bool{false, true} {
		rec, part := &recorder{t: t}, make([]byte, 5)
		m := &mover{ahead: newAhead([]area{second, first}, rec.ask)}
		err := m.read(&first, part, 2)
		require.True(t, rec.holds(tensor.File(), 0, size(tensor.File())))
		require.True(t, rec.holds(beyond, 0, aheadWindow-int64(os.Getpagesize())))
		if broken {
			require.ErrorIs(t, err, errFault)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, "23456", string(part))
	}
}

// order notes the bytes of every fill.
type order struct {
	hip.Device
	mu      sync.Mutex
	lengths []int64
}

func (o *order) Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error {
	o.mu.Lock()
	o.lengths = append(o.lengths, n)
	o.mu.Unlock()
	return read(make([]byte, n), 0)
}

// TestLoadUploadsInTheOrderOfTheFiles whatever the order of the parameters is, each once, and
// finds a place for everything before it reads anything.
func TestLoadUploadsInTheOrderOfTheFiles(t *testing.T) {
	plan, c, params := expertPlan(t)
	host := hip.NewReference()
	defer host.Close()
	matrices := make(map[string]bool)
	for _, p := range params {
		for _, part := range p.Parts {
			matrices[part.Tensor] = !p.vector() && part.keepRows().Len() > 0
		}
	}
	var want []int64
	for _, f := range filesOf(c) {
		for _, tensor := range f.Tensors() {
			if weight := strings.TrimSuffix(tensor.Name, "_scale_inv"); matrices[weight] {
				want = append(want, tensor.Size())
			}
		}
	}
	d := &order{Device: bare{host}}
	m := newMover(t.Context(), d, plan.report.Bytes, false, nil)
	require.NoError(t, m.all(plan))
	require.NoError(t, m.loaded.Close())
	require.Equal(t, want, lengthsOf(m))
	slices.Sort(want)
	slices.Sort(d.lengths)
	require.Equal(t, want, d.lengths)

	progressed := false
	f := filling{hiptest.NewFaulty(host, errFault)}
	f.FailAt(len(want), "alloc")
	_, err := loadRecorded(t, t.Context(), plan, f, func(int64, int64) { progressed = true })
	require.ErrorIs(t, err, errFault)
	require.False(t, progressed, "memory that is short is found before anything is read")
}
