package gpu_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/need"
)

func TestEmulatedDevices(t *testing.T) {
	withoutPools := []emulator.Settings{{NoPools: true}, {Platform: "cuda", Wave: 32, NoPools: true}}
	for _, e := range append(emulator.All(), withoutPools...) {
		t.Run(e.String(), func(t *testing.T) {
			hiptest.TestDevice(t, emulator.Open(t, e))
		})
		t.Run("checked "+e.String(), func(t *testing.T) {
			hiptest.TestDevice(t, hip.Check(emulator.Open(t, e)))
		})
	}
}

func TestGPU(t *testing.T) {
	hiptest.TestDevice(t, need.GPU(t))
}

// scale computes y = k·y, a thread for each value.
type scaleArgs struct {
	Y hip.Ptr // [N] float32
	N int32
	K float32
}

const scaleHIP = `
struct Scale { float *y; int32 n; float k; };
KERNEL(64) void test_scale(Scale a) {
  const int32 i = (int32)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < a.n) a.y[i] *= a.k;
}
`

var scale = hip.NewKernel("test_scale", scaleHIP, func(b *hip.Blocks, a *scaleArgs) {
	first := b.First * 64
	y := hip.Out[float32](b, a.Y.Add(int64(first)*4), min(b.End*64, int(a.N))-first)
	for i := range y {
		y[i] *= a.K
	}
})

// sourceless runs on CPU devices only.
var sourceless = hip.NewKernel("test_sourceless", "", nothing)

func scaleOn(d hip.Device, y hip.Ptr, n int, k float32) error {
	return scale.Launch(d, hip.Grid{Blocks: (n + 63) / 64, Threads: 64}, &scaleArgs{Y: y, N: int32(n), K: k})
}

func values(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%251) + 1
	}
	return v
}

// expect reads n values at p, which must be k times values(n).
func expect(d hip.Device, p hip.Ptr, n int, k float32) error {
	got := make([]float32, n)
	if err := hip.ReadOf(d, got, p); err != nil {
		return err
	}
	for i, v := range values(n) {
		if got[i] != v*k {
			return fmt.Errorf("value %d is %v, want %v", i, got[i], v*k)
		}
	}
	return nil
}

func TestTransfersOfEverySize(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		// Around the parts that staging is divided into, and several times all of it.
		for _, n := range []int{1, 3, 16<<10 - 1, 16<<10 + 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1<<20 + 1, 5<<20 + 7} {
			v := values(n)
			p, err := hip.Upload(d, v)
			require.NoError(t, err)
			clear(v)
			require.NoError(t, expect(d, p, n, 1), "%d values", n)
			require.NoError(t, d.Free(p))
		}
	})
}

func TestManySmallWrites(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		const n, size = 3000, 1 << 10 // more than all stages
		p, err := d.Alloc(4 * int64(n*size))
		require.NoError(t, err)
		v := values(n * size)
		part := make([]float32, size)
		for i := range n {
			copy(part, v[i*size:])
			require.NoError(t, hip.WriteOf(d, p.Add(int64(i)*size*4), part))
		}
		require.NoError(t, expect(d, p, n*size, 1))
	})
}

func TestFill(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		f := d.(filler)
		const n = 9<<20 + 5
		p := must(d.Alloc(n))
		next := int64(0)
		require.NoError(t, f.Fill(p, n, func(part []byte, off int64) error {
			require.Equal(t, next, off, "in order, without gaps")
			next += int64(len(part))
			for i := range part {
				part[i] = byte((off + int64(i)) % 253)
			}
			return nil
		}))
		require.EqualValues(t, n, next)
		got := make([]byte, n)
		require.NoError(t, d.Read(got, p))
		for i, b := range got {
			if b != byte(i%253) {
				t.Fatalf("byte %d is %d", i, b)
			}
		}
		stop := errors.New("stop")
		require.ErrorIs(t, f.Fill(p, n, func([]byte, int64) error { return stop }), stop)
		require.ErrorIs(t, f.Fill(p, n+1, func([]byte, int64) error { t.Error("called"); return nil }), hip.ErrAccess)
		require.NoError(t, d.Write(p, []byte{1}), "the device goes on")
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestLaunchesThatAreRefused(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		y := must(hip.Upload(d, values(64)))
		freed := must(d.Alloc(64))
		require.NoError(t, d.Free(freed))
		launch := func(g hip.Grid, p hip.Ptr) error { return scale.Launch(d, g, &scaleArgs{Y: p, N: 64, K: 2}) }
		for name, err := range map[string]error{
			"no threads":       launch(hip.Grid{Blocks: 1}, y),
			"too many threads": launch(hip.Grid{Blocks: 1, Threads: 1025}, y),
			"too many blocks":  launch(hip.Grid{Blocks: 1 << 31, Threads: 64}, y),
			"freed memory":     launch(hip.Grid{Blocks: 1, Threads: 64}, freed),
			"no source":        sourceless.Launch(d, hip.Grid{Blocks: 1, Threads: 64}, &noArgs{}),
		} {
			require.ErrorContains(t, err, "hip: kernel test_", name)
		}
		require.ErrorIs(t, launch(hip.Grid{Blocks: 1, Threads: 64}, freed), hip.ErrAccess)
		require.ErrorIs(t, sourceless.Launch(d, hip.Grid{Blocks: 1, Threads: 64}, &noArgs{}), fail.NoSource)
		if d.Info().Kind == "hip" {
			require.ErrorContains(t, launch(hip.Grid{Blocks: 1 << 23, Threads: 512}, y), "2^32")
		}
		require.NoError(t, expect(d, y, 64, 1), "nothing ran")
	})
}

func TestCapture(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		const n = 1000
		x, y := must(hip.Upload(d, values(n))), must(d.Alloc(4*int64(n)))
		require.NoError(t, scaleOn(d, y, n, 1), "compiled before")
		g, err := capture(d, func(r hip.Device) error {
			require.NoError(t, scaleOn(d, x, n, 2), "not recorded")
			return errors.Join(r.Copy(y, x, 4*n), scaleOn(r, y, n, 2), scaleOn(r, y, n, 3))
		})
		require.NoError(t, err)
		require.NoError(t, expect(d, y, n, 0), "recording runs nothing")
		for k := range 3 {
			require.NoError(t, hip.WriteOf(d, x, scaled(n, float32(k))))
			require.NoError(t, g.Launch())
			require.NoError(t, expect(d, y, n, float32(6*k)))
		}
		require.NoError(t, g.Close())
		require.ErrorIs(t, g.Close(), hip.ErrClosed)
		require.ErrorIs(t, g.Launch(), hip.ErrClosed)

		_, err = capture(d, func(r hip.Device) error {
			_, alloc := r.Alloc(4)
			for i, err := range []error{alloc, r.Free(x), r.Write(x, []byte{1}), r.Read(make([]byte, 1), x), r.Sync(), r.Close()} {
				require.ErrorIs(t, err, fail.Recording, i)
			}
			_, nested := r.(capturer)
			_, fills := r.(filler)
			require.False(t, nested || fills)
			require.Equal(t, d.Info(), r.Info())
			return context.Canceled
		})
		require.ErrorIs(t, err, context.Canceled)
		_, err = capture(d, func(r hip.Device) error { return nil })
		require.NoError(t, err, "an empty graph; Close of the device frees it")
	})
}

func scaled(n int, k float32) []float32 {
	v := values(n)
	for i := range v {
		v[i] *= k
	}
	return v
}

func TestTimer(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		y := must(hip.Upload(d, values(64)))
		start := time.Now()
		took, err := d.(timer).Time(func() error { return scaleOn(d, y, 64, 2) })
		require.NoError(t, err)
		require.Positive(t, took)
		require.LessOrEqual(t, took, time.Since(start))
		require.NoError(t, expect(d, y, 64, 2))
		_, err = d.(timer).Time(func() error { return context.Canceled })
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestImportAndLentStream(t *testing.T) {
	for _, platform := range []string{"hip", "cuda"} {
		t.Run(platform, func(t *testing.T) {
			m := emulator.New(t, emulator.Settings{Platform: platform, Wave: 32})
			engine := must(hip.Open(0, m.Options()))
			opts := m.Options()
			opts.Stream = engine.(streamer).Stream()
			head := must(hip.Open(0, opts))
			const n = 100
			y := must(hip.Upload(engine, values(n)))
			require.ErrorIs(t, scaleOn(head, y, n, 2), hip.ErrAccess, "not known yet")
			require.NoError(t, hip.Import(head, y, 4*n))
			require.ErrorIs(t, hip.Import(head, y.Add(8), 4*n), hip.ErrAccess, "overlaps")
			require.ErrorIs(t, hip.Import(head, 0, 4), hip.ErrAccess)
			bytes, live := hiptest.InUse(head)
			require.Equal(t, [2]int{0, 1}, [2]int{int(bytes), live})
			require.NoError(t, scaleOn(head, y, n, 2))
			require.NoError(t, expect(engine, y, n, 2), "one stream, one order")
			require.NoError(t, head.Free(y))
			require.ErrorIs(t, scaleOn(head, y, n, 2), hip.ErrAccess)
			require.NoError(t, head.Close())
			require.NoError(t, scaleOn(engine, y, n, 2), "memory and stream are the engine's")
			require.NoError(t, expect(engine, y, n, 4))
			require.NoError(t, engine.Close())
		})
	}
}

func TestTwoDevicesAtATime(t *testing.T) {
	for _, platform := range []string{"hip", "cuda"} {
		t.Run(platform, func(t *testing.T) {
			m := emulator.New(t, emulator.Settings{Platform: platform, Wave: 32, Devices: 2})
			var devices [2]hip.Device
			for i := range devices {
				devices[i] = must(hip.Open(i, m.Options()))
			}
			errs := make([]error, 12)
			var group sync.WaitGroup
			for g := range errs {
				group.Go(func() { errs[g] = scaleAgain(devices[g%2], 700+g, 20) })
			}
			group.Wait()
			require.NoError(t, errors.Join(errs...))
			for _, d := range devices {
				require.NoError(t, d.Close())
			}
		})
	}
}

// scaleAgain doubles values a number of times, from whatever thread it is on.
func scaleAgain(d hip.Device, n, times int) error {
	y, err := hip.Upload(d, values(n))
	if err != nil {
		return err
	}
	k := float32(1)
	for range times {
		if err := scaleOn(d, y, n, 2); err != nil {
			return err
		}
		k *= 2
		runtime.Gosched()
	}
	return errors.Join(expect(d, y, n, k), d.Free(y))
}

func TestClosedGPU(t *testing.T) {
	m := emulator.New(t, emulator.Settings{})
	d := must(hip.Open(0, m.Options()))
	p := must(d.Alloc(64))
	require.NoError(t, d.Close(), "with memory in use")
	require.ErrorIs(t, d.Close(), hip.ErrClosed)
	_, err := d.Alloc(1)
	require.ErrorIs(t, err, hip.ErrClosed)
	require.ErrorIs(t, d.Write(p, []byte{1}), hip.ErrClosed)
	require.ErrorIs(t, d.Read(make([]byte, 1), p), hip.ErrClosed)
	require.ErrorIs(t, d.Copy(p, p.Add(8), 8), hip.ErrClosed)
	require.ErrorIs(t, d.Free(p), hip.ErrClosed)
	require.ErrorIs(t, d.Sync(), hip.ErrClosed)
	require.ErrorIs(t, scaleOn(d, p, 1, 1), hip.ErrClosed)
	require.ErrorIs(t, hip.Compile(t.Context(), d, &scale.Kernel), hip.ErrClosed)
}

func TestCloseDuringACapture(t *testing.T) {
	m := emulator.New(t, emulator.Settings{Platform: "cuda", Wave: 32})
	d := must(hip.Open(0, m.Options()))
	_, err := capture(d, func(hip.Device) error {
		require.NoError(t, d.Close())
		return nil
	})
	require.ErrorIs(t, err, hip.ErrClosed)
}

func TestCloseWhileTiming(t *testing.T) {
	for _, e := range platforms {
		d := must(hip.Open(0, emulator.New(t, e).Options()))
		_, err := d.(timer).Time(d.Close)
		require.ErrorIs(t, err, hip.ErrClosed)
	}
}

// BenchmarkGPULaunch is the cost of a launch on the CPU: the emulator runs the
// kernels while the clock stands still.
func BenchmarkGPULaunch(b *testing.B) {
	d := emulator.Open(b, emulator.Settings{Wave: 32})
	y := must(hip.Upload(d, values(64)))
	a := &scaleArgs{Y: y, N: 64, K: 1}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := scale.Launch(d, hip.Grid{Blocks: 1, Threads: 64}, a); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 0 {
			b.StopTimer()
			require.NoError(b, d.Sync())
			b.StartTimer()
		}
	}
}
