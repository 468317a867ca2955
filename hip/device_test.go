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

// drift is wrong on the host: by Off in value At, in each of its outputs.
type driftArgs struct {
	F, B, I hip.Ptr // float32, bfloat16, int32
	N, At   int32
	Off     float32
	Turn    int32 // added to the integer
}

func driftTwin(b *hip.Blocks, a *driftArgs) { drifted(b, a, 0, 0) }

func drifted(b *hip.Blocks, a *driftArgs, off float32, turn int32) {
	f, h, n := hip.Out[float32](b, a.F, int(a.N)), hip.Out[hip.BF16](b, a.B, int(a.N)), hip.Out[int32](b, a.I, int(a.N))
	for i := b.First; i < b.End; i++ {
		v := float32(i) - 3
		if int32(i) == a.At {
			v += off
			n[i] += turn
		}
		f[i], h[i] = v, hip.ToBF16(v)
		n[i] += int32(i)
	}
}

var drift = hip.NewKernel("test_drift", "", driftTwin).Fast(1e-3, func(b *hip.Blocks, a *driftArgs) { drifted(b, a, a.Off, a.Turn) })

type hiddenArgs struct{ y hip.Ptr }

func writeHidden(v int32) func(*hip.Blocks, *hiddenArgs) {
	return func(b *hip.Blocks, a *hiddenArgs) { hip.Out[int32](b, a.y, 1)[0] = v }
}

var hidden = hip.NewKernel("test_hidden", "", writeHidden(1)).Fast(0, writeHidden(2))

// TestCheckWithHiddenFields: arguments are named as Go's reflection sees them, which
// may not look into fields of another package.
func TestCheckWithHiddenFields(t *testing.T) {
	d := hip.Check(hip.NewHost())
	defer d.Close()
	y, err := d.Alloc(4)
	require.NoError(t, err)
	err = hidden.Launch(d, hip.Grid{Blocks: 1}, &hiddenArgs{y})
	require.ErrorIs(t, err, hip.ErrMismatch)
	require.ErrorContains(t, err, ": y[0] is 2, the reference has 1 ")
}

func TestCheckNamesTheKernelThatDiffers(t *testing.T) {
	const n = 50
	d := hip.Check(hip.NewHost())
	defer d.Close()
	a := &driftArgs{N: n, At: 20}
	var err error
	a.F, err = d.Alloc(4 * int64(n))
	require.NoError(t, err)
	a.B, err = d.Alloc(2 * int64(n))
	require.NoError(t, err)
	a.I, err = d.Alloc(4 * int64(n))
	require.NoError(t, err)
	launch := func() error { return drift.Launch(d, hip.Grid{Blocks: n}, a) }

	require.NoError(t, launch())
	a.Off = 0.04 // the largest magnitude is 46, the bound 0.046
	require.NoError(t, launch())
	a.Off = 0.05
	err = launch()
	require.ErrorIs(t, err, hip.ErrMismatch)
	require.Regexp(t, `^hip: kernel test_drift: launch 3: F\[20\] is 17\.0(5|49999\d+|5000\d+), the reference has 17 \(bound on the difference 0\.046\): differs from the reference$`, err.Error())

	a.Off = float32(math.NaN())
	require.ErrorIs(t, launch(), hip.ErrMismatch, "a NaN where the reference has a number")
	a.Off, a.Turn = 0, 1
	err = launch()
	require.ErrorIs(t, err, hip.ErrMismatch, "integers are equal or wrong")
	require.ErrorContains(t, err, ": I[20] is ")
	a.Turn = 0
	require.NoError(t, launch(), "the next launch is judged by itself")
}

func TestCheckKeepsItsBoundBesideNaN(t *testing.T) {
	d := hip.Check(hip.NewHost())
	defer d.Close()
	x, err := hip.Upload(d, []float32{float32(math.NaN()), 100, 1})
	require.NoError(t, err)
	y, err := d.Alloc(12)
	require.NoError(t, err)
	launch := func(off float32) error {
		return perturb.Launch(d, hip.Grid{Blocks: 3}, &perturbArgs{X: x, Y: y, N: 3, Off: off})
	}
	require.NoError(t, launch(0.09))
	require.ErrorIs(t, launch(0.11), hip.ErrMismatch)
}

// perturb copies x, and is off by Off on the host.
type perturbArgs struct {
	X, Y hip.Ptr // [N] float32
	N    int32
	Off  float32
}

func perturbed(b *hip.Blocks, a *perturbArgs, off float32) {
	x, y := hip.In[float32](b, a.X, int(a.N)), hip.Out[float32](b, a.Y, int(a.N))
	for i := b.First; i < b.End; i++ {
		y[i] = x[i] + off
	}
}

var perturb = hip.NewKernel("test_perturb", "", func(b *hip.Blocks, a *perturbArgs) { perturbed(b, a, 0) }).
	Fast(1e-3, func(b *hip.Blocks, a *perturbArgs) { perturbed(b, a, a.Off) })

func TestCheckSeesTheSameInput(t *testing.T) {
	d := hip.Check(hip.NewHost())
	defer d.Close()
	x, err := hip.Upload(d, []int32{5, 6, 7})
	require.NoError(t, err)
	y, err := d.Alloc(12)
	require.NoError(t, err)
	require.NoError(t, d.Copy(y, x, 12))
	for range 3 {
		require.NoError(t, count.Launch(d, hip.Grid{Blocks: 3}, &countArgs{Y: y, N: 3}))
	}
	got := make([]int32, 3)
	require.NoError(t, hip.ReadOf(d, got, y))
	require.Equal(t, []int32{8, 9, 10}, got)
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

type pairArgs struct {
	Y, Z hip.Ptr // [N] int32 each
	N    int64
}

// pair writes two ranges, which may touch.
var pair = hip.NewKernel("test_pair", "", func(b *hip.Blocks, a *pairArgs) {
	copy(hip.Out[int32](b, a.Y, int(a.N)), []int32{1, 2, 3, 4})
	copy(hip.Out[int32](b, a.Z, int(a.N)), []int32{5, 6, 7, 8})
})

// TestCheckOfAllocationsThatTouch: what a launch writes at the end of one allocation
// and at the beginning of the next is compared as two ranges.
func TestCheckOfAllocationsThatTouch(t *testing.T) {
	d := hip.Check(hip.NewHost())
	mem := make([]byte, 32)
	y, err := ability[hip.Adopter](t, d).Adopt(mem[:16:16], true)
	require.NoError(t, err)
	z, err := ability[hip.Adopter](t, d).Adopt(mem[16:], true)
	require.NoError(t, err)
	require.Equal(t, y.Add(16), z)
	require.NoError(t, pair.Launch(d, hip.Grid{Blocks: 1}, &pairArgs{Y: y, Z: z, N: 4}))
	require.Equal(t, []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0}, mem)
	require.NoError(t, d.Close())
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
