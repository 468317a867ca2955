package weights

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// filling is a device that asks for the bytes of an upload, a few at a time.
type filling struct{ faulty }

func (f filling) Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error {
	if err := f.Next("fill"); err != nil {
		return err
	}
	part := make([]byte, 1000)
	for off := int64(0); off < n; off += int64(len(part)) {
		part = part[:min(int64(len(part)), n-off)]
		if err := read(part, off); err != nil {
			return err
		}
		if err := f.faulty.Write(dst.Add(off), part); err != nil {
			return err
		}
	}
	return nil
}

func TestLoadFillsADevice(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	params := headOf(t, smallHead, Parallel{})
	host := hip.NewReference()
	defer host.Close()
	for good := 0; ; good++ {
		d := filling{hiptest.NewFaulty(host, errFault)}
		d.FailAt(good+1, "fill")
		done := int64(0)
		l, err := plan.Load(t.Context(), d, false, false, func(n, _ int64) { done = n })
		if err == nil {
			require.Greater(t, good, 20)
			require.Equal(t, plan.Report().Bytes, done)
			requireShare(t, host, l, params, s)
			require.NoError(t, l.Close())
			return
		}
		require.ErrorIs(t, err, errFault)
		require.ErrorContains(t, err, "model.")
		require.Equal(t, [2]int64{}, inUse(host), "after %d good calls", good)
	}
}

func TestLoadOnGPUs(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	params := headOf(t, smallHead, Parallel{})
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		l, err := plan.Load(t.Context(), d, false, false, nil)
		require.NoError(t, err)
		requireShare(t, d, l, params, s)
		require.NoError(t, l.Close())
		require.Equal(t, [2]int64{}, inUse(d))
	})
}

// TestFillJobs: jobs are the uploads, in their order, without gaps.
func TestFillJobs(t *testing.T) {
	m := new(mover)
	sizes := []int64{1, fillChunk - 1, fillChunk, fillChunk + 1, 5*fillChunk + 7, 64}
	for _, n := range sizes {
		m.uploads = append(m.uploads, upload{area: area{width: n, stride: n, rows: 1}})
	}
	require.Equal(t, sizes, lengthsOf(m))
	at, jobs := int64(0), 0
	for j := range m.fillJobs() {
		if j.off == 0 {
			at = 0
		}
		require.Equal(t, at, j.off)
		require.True(t, 0 < j.n && j.n <= fillChunk)
		at += j.n
		jobs++
	}
	require.Equal(t, 1+1+1+2+6+1, jobs)
	for range m.fillJobs() {
		break
	}
}

// lengthsOf returns the bytes of each upload, as the jobs have them.
func lengthsOf(m *mover) (lengths []int64) {
	for j := range m.fillJobs() {
		if j.off == 0 {
			lengths = append(lengths, 0)
		}
		lengths[len(lengths)-1] += j.n
	}
	return lengths
}

// crowded is a device whose fills wait for one another: until as many are under way as
// goroutines fill, or it is released.
type crowded struct {
	hip.Device
	want    int32
	now     atomic.Int32
	full    chan struct{}
	once    sync.Once
	release func()
}

func newCrowded(d hip.Device) *crowded {
	c := &crowded{Device: d, want: int32(min(mostFillers, runtime.GOMAXPROCS(0))), full: make(chan struct{})}
	c.release = func() { c.once.Do(func() { close(c.full) }) }
	return c
}

func (c *crowded) Fill(dst hip.Ptr, n int64, read func(part []byte, off int64) error) error {
	defer c.now.Add(-1)
	if c.now.Add(1) == c.want {
		c.release()
	}
	<-c.full
	part := make([]byte, n)
	if err := read(part, 0); err != nil {
		return err
	}
	return c.Write(dst, part)
}

func (c *crowded) Free(p hip.Ptr) error {
	if n := c.now.Load(); n > 0 {
		panic("memory is given back while it is filled")
	}
	return c.Device.Free(p)
}

// TestLoadFillsByManyGoroutines at a time, of different tensors, and waits for all of them
// before it gives memory back: at the end of the context, after an error and where progress
// panics.
func TestLoadFillsByManyGoroutines(t *testing.T) {
	plan, s := headPlan(t, smallHead, mixed)
	params := headOf(t, smallHead, Parallel{})
	host := hip.NewReference()
	defer host.Close()
	l, err := plan.Load(t.Context(), newCrowded(bare{host}), false, false, nil)
	require.NoError(t, err)
	requireShare(t, host, l, params, s)
	require.NoError(t, l.Close())
	for _, n := range []int{1, 2, 20} {
		calls := 0
		require.PanicsWithValue(t, "caller's", func() {
			_, _ = plan.Load(t.Context(), newCrowded(bare{host}), false, false, func(int64, int64) {
				if calls++; calls == n {
					panic("caller's")
				}
			})
		})
		require.Equal(t, [2]int64{}, inUse(host))
	}
}

// TestReadAcross: what several goroutines read is what one does.
func TestReadAcross(t *testing.T) {
	const rows, cols = 3100, 1111
	data := make([]byte, rows*cols)
	r := rand.NewChaCha8([32]byte{5})
	_, err := r.Read(data)
	require.NoError(t, err)
	c := openHead(t, inMap(map[string][]byte{"a.safetensors": buildFile(bytePart("t", string(data)))}))
	tensor, ok := c.Tensor("t")
	require.True(t, ok)
	for _, a := range []area{
		{tensor: tensor, stride: cols, rows: rows, width: cols},
		{tensor: tensor, start: 100, stride: cols, rows: rows, width: 1000},
	} {
		want, got := make([]byte, a.bytes()), make([]byte, a.bytes())
		require.NoError(t, a.readAt(want, 0))
		require.NoError(t, a.readAcross(got, 0))
		require.Equal(t, want, got)
		require.NoError(t, a.readAcross(got[:3_000_000], 7))
		require.Equal(t, want[7:3_000_007], got[:3_000_000])
	}
	beyond := area{tensor: tensor, stride: cols, rows: rows + 1, width: cols}
	require.Error(t, beyond.readAcross(make([]byte, beyond.bytes()), 0))
}
