package hip_test

import (
	"bytes"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestDevices(t *testing.T) {
	for name, open := range map[string]func() hip.Device{
		"reference":          hip.NewReference,
		"host":               func() hip.Device { return hip.NewHost() },
		"host 1 thread":      func() hip.Device { return hip.NewHost(1) },
		"host 7 threads":     func() hip.Device { return hip.NewHost(7) },
		"checked host":       func() hip.Device { return hip.Check(hip.NewHost()) },
		"checked bare host":  func() hip.Device { return hip.Check(bare{hip.NewHost()}) },
		"device without ext": func() hip.Device { return bare{hip.NewHost()} },
	} {
		t.Run(name, func(t *testing.T) {
			d := open()
			hiptest.TestDevice(t, d)
			require.NoError(t, d.Close())
		})
	}
}

// bare hides every optional interface of a device.
type bare struct{ hip.Device }

func TestClosedDevice(t *testing.T) {
	for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(), hip.Check(hip.NewHost())} {
		p, err := d.Alloc(64)
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.ErrorIs(t, d.Close(), hip.ErrClosed)
		_, err = d.Alloc(1)
		require.ErrorIs(t, err, hip.ErrClosed)
		require.ErrorIs(t, d.Write(p, []byte{1}), hip.ErrClosed)
		require.ErrorIs(t, d.Read(make([]byte, 1), p), hip.ErrClosed)
		require.ErrorIs(t, d.Free(p), hip.ErrClosed)
		require.ErrorIs(t, d.Sync(), hip.ErrClosed)
		require.ErrorIs(t, count.Launch(d, hip.Grid{Blocks: 1}, &countArgs{}), hip.ErrClosed)
	}
}

func TestHostCloseEndsItsGoroutines(t *testing.T) {
	requireWorkers(t, 0)
	d := hip.NewHost(9)
	requireWorkers(t, 8)
	require.NoError(t, d.Close())
	requireWorkers(t, 0)
}

// requireWorkers checks how many workers hosts have. A worker that was started may not run
// yet, and one that has said that it ends may still be there.
func requireWorkers(t *testing.T, want int) {
	t.Helper()
	workers := func() int {
		stacks := make([]byte, 1<<20)
		return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("created by github.com/drafthead/drafthead/hip.newHost"))
	}
	for wait := time.Now().Add(10 * time.Second); workers() != want && time.Now().Before(wait); {
		runtime.Gosched()
	}
	require.Equal(t, want, workers())
}

func requireOutOfMemory(t *testing.T, err error, bytes int64) {
	t.Helper()
	require.ErrorIs(t, err, hip.ErrOutOfMemory)
	require.EqualError(t, err, fmt.Sprintf("hip: %d bytes asked for: out of device memory", bytes))
}

// TestMoreMemoryThanThereIs: an allocation of more is an error. The sizes are more than any
// machine grants, since one that was granted could take all of its memory.
func TestMoreMemoryThanThereIs(t *testing.T) {
	for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(), hip.Check(hip.NewHost())} {
		for _, n := range []int64{1<<40 + 1, 1 << 50, 1 << 52, math.MaxInt64, -1} {
			_, err := d.Alloc(n)
			requireOutOfMemory(t, err, n)
		}
		p, err := hip.Upload(d, []int32{1})
		require.NoError(t, err, "the device goes on")
		require.NoError(t, d.Free(p))
		require.NoError(t, d.Close())
	}
}

func TestAdoptSameMemoryTwice(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	a := d.(hip.Adopter)
	mem := make([]byte, 100)
	p, err := a.Adopt(mem, false)
	require.NoError(t, err)
	again, err := a.Adopt(mem, false)
	require.NoError(t, err)
	require.Equal(t, p, again)
	_, err = a.Adopt(mem[10:20], false)
	require.ErrorIs(t, err, hip.ErrAccess, "inside another adoption")
	_, err = a.Adopt(mem, true)
	require.ErrorIs(t, err, hip.ErrAccess, "with other rights")
	require.NoError(t, d.Free(p))
	require.NoError(t, d.Read(make([]byte, 100), p), "still adopted once")
	require.NoError(t, d.Free(p))
	require.ErrorIs(t, d.Free(p), hip.ErrAccess)
}

// count adds one to each value, once per block it is given.
type countArgs struct {
	Y    hip.Ptr // [N] int32
	N    int32
	Mode int32
}

const (
	countWell = iota
	countPastTheEnd
	countSliceBounds
	countMisaligned
)

var count = hip.NewKernel("test_count", "", func(b *hip.Blocks, a *countArgs) {
	y, n := a.Y, int(a.N)
	switch {
	case a.Mode == countPastTheEnd:
		n++
	case a.Mode == countSliceBounds && b.End == n: // other parts would write each other's blocks
		b.End++
	case a.Mode == countMisaligned:
		y++
	}
	v := hip.Out[int32](b, y, n)
	for i := b.First; i < b.End; i++ {
		v[i]++
	}
})

func TestEveryBlockRunsOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		d := hip.NewHost(threads)
		for _, n := range []int{1, 2, 3, 31, 32, 33, 1000} {
			for _, cost := range []int{0, 1 << 20} {
				y, err := d.Alloc(4 * int64(n))
				require.NoError(t, err)
				require.NoError(t, count.Launch(d, hip.Grid{Blocks: n, BlockCost: cost}, &countArgs{Y: y, N: int32(n)}))
				got := make([]int32, n)
				require.NoError(t, hip.ReadOf(d, got, y))
				for i, v := range got {
					require.EqualValues(t, 1, v, "threads %d, n %d, block %d", threads, n, i)
				}
			}
		}
		require.NoError(t, d.Close())
	}
}

func TestBadAccessIsAnErrorOfTheLaunch(t *testing.T) {
	for _, d := range []hip.Device{hip.NewReference(), hip.NewHost(), hip.Check(hip.NewHost())} {
		y, err := d.Alloc(400)
		require.NoError(t, err)
		for _, mode := range []int32{countPastTheEnd, countSliceBounds, countMisaligned} {
			err := count.Launch(d, hip.Grid{Blocks: 100, BlockCost: 1 << 20}, &countArgs{Y: y, N: 100, Mode: mode})
			require.ErrorIs(t, err, hip.ErrAccess, "%s, mode %d", d.Info().Name, mode)
			require.ErrorContains(t, err, "hip: kernel test_count: ")
		}
		require.NoError(t, count.Launch(d, hip.Grid{Blocks: 100}, &countArgs{Y: y, N: 100}), "the device goes on")
		require.NoError(t, d.Close())
	}
}

func TestKernels(t *testing.T) {
	names := map[string]bool{}
	last := ""
	for _, k := range hip.Kernels() {
		require.Less(t, last, k.Name)
		last = k.Name
		names[k.Name] = true
	}
	require.True(t, names["test_count"] && names["test_drift"])
	require.Panics(t, func() { hip.NewKernel("test_count", "", func(*hip.Blocks, *countArgs) {}) }, "name taken")
	type padded struct {
		A int32
		B hip.Ptr
	}
	require.Panics(t, func() { hip.NewKernel("test_padded", "", func(*hip.Blocks, *padded) {}) }, "C++ may lay it out otherwise")
	type sliced struct{ A []int32 }
	require.Panics(t, func() { hip.NewKernel("test_sliced", "", func(*hip.Blocks, *sliced) {}) })
}

func TestBF16(t *testing.T) {
	for bits := range 1 << 16 {
		b := hip.BF16(bits)
		f := b.Float32()
		if f != f {
			back := hip.ToBF16(f).Float32()
			require.True(t, back != back)
			continue
		}
		require.Equal(t, b, hip.ToBF16(f), "bits %#x", bits)
	}
	for _, c := range []struct{ f, want float32 }{
		{1 + 1.0/256, 1},                  // half a step: to even, down
		{1 + 3.0/256, 1 + 4.0/256},        // half a step: to even, up
		{1 + 1.0/256 + 1e-6, 1 + 2.0/256}, // just over half
	} {
		require.Equal(t, c.want, hip.ToBF16(c.f).Float32(), "%v", c.f)
	}
}

func BenchmarkHostLaunch(b *testing.B) {
	d := hip.NewHost()
	defer d.Close()
	for _, cost := range []int{0, 1 << 20} {
		b.Run(fmt.Sprintf("cost %d", cost), func(b *testing.B) {
			y, err := d.Alloc(256)
			require.NoError(b, err)
			a := &countArgs{Y: y, N: 64}
			b.ReportAllocs()
			for b.Loop() {
				_ = count.Launch(d, hip.Grid{Blocks: 64, BlockCost: cost}, a)
			}
		})
	}
}

// TestOpenHost: what the options say is what the device is, and what they cannot say is
// refused with the way out.
func TestOpenHost(t *testing.T) {
	plain := hip.NewHost(3)
	d, err := hip.OpenHost(hip.HostOptions{Threads: 3})
	require.NoError(t, err)
	require.Equal(t, plain.Info(), d.Info())
	require.NoError(t, d.Close())
	require.NoError(t, plain.Close())

	levels := hip.SIMDLevels()
	for _, a := range []hip.Activations{hip.ActivationsBF16x2, hip.ActivationsBF16} {
		d, err := hip.OpenHost(hip.HostOptions{Activations: a})
		require.NoError(t, err)
		if best := levels[len(levels)-1]; best == hip.SIMDAVX512BF16 || best == hip.SIMDAMX || best == hip.SIMDNEONBF16 && a == hip.ActivationsBF16 {
			require.Contains(t, d.Info().Name, ", "+a.String()+" activations")
			require.Equal(t, a, d.Info().Activations)
		} else {
			require.Equal(t, hip.ActivationsExact, d.Info().Activations)
			require.NotContains(t, d.Info().Name, "activations", "the machine multiplies exactly")
		}
		require.NoError(t, d.Close())
	}
	for _, a := range []hip.Activations{hip.ActivationsMXFP8, -1, 99} {
		d, err := hip.OpenHost(hip.HostOptions{Activations: a})
		require.Nil(t, d)
		var wrong *hip.InputError
		require.ErrorAs(t, err, &wrong)
		require.Equal(t, "Activations", wrong.Field)
		require.ErrorContains(t, err, "mtp.Options.Activations")
	}
}
