package gpu_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/gpu"
)

var platforms = []emulator.Settings{{Platform: "hip", Wave: 64}, {Platform: "cuda", Wave: 32}}

// session is a life of a device in which everything is used once.
func session(opts hip.OpenOptions, beforeClose func()) (err error) {
	d, err := hip.Open(0, opts)
	if err != nil {
		return err
	}
	defer func() {
		beforeClose()
		err = errors.Join(err, d.Close())
	}()
	const n = 100
	x, err := hip.Upload(d, values(n))
	if err != nil {
		return err
	}
	y, err := d.Alloc(4 * n)
	if err != nil {
		return err
	}
	if err := hip.Compile(context.Background(), d, &scale.Kernel); err != nil {
		return err
	}
	if _, err := d.(timer).Time(func() error { return scaleOn(d, x, n, 2) }); err != nil {
		return err
	}
	g, err := capture(d, func(r hip.Device) error {
		return errors.Join(r.Copy(y, x, 4*n), scaleOn(r, y, n, 2))
	})
	if err != nil {
		return err
	}
	z, host, err := allocShared(d.(sharer), n)
	if err != nil {
		return err
	}
	copy(host, values(n))
	return errors.Join(scaleOn(d, z, n, 3), expect(d, z, n, 3),
		g.Launch(), d.Sync(), expect(d, x, n, 2), expect(d, y, n, 4), g.Close(), d.Free(x), d.Free(z))
}

// TestEveryCallOfTheDriverMayFail makes each call of a session fail once. It must be
// an error, or make no difference; the driver is left with nothing; and the next
// session works.
func TestEveryCallOfTheDriverMayFail(t *testing.T) {
	for _, e := range platforms {
		for _, cache := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, cache %v", e.Platform, cache), func(t *testing.T) {
				t.Parallel()
				m := emulator.New(t, e)
				opts := m.Options()
				if !cache {
					opts.CacheDir = os.DevNull
				}
				// On CUDA a failure to select the context for Close leaves what Close
				// would have given back: the end of the context does that.
				calls := 0
				beforeClose := func() {
					if e.Platform == "cuda" {
						calls = m.FailAt(0)
					}
				}
				require.NoError(t, session(opts, beforeClose), "which fills the cache")
				m.FailAt(0)
				require.NoError(t, session(opts, beforeClose))
				if e.Platform != "cuda" {
					calls = m.FailAt(0)
				}
				require.Greater(t, calls, 50)
				survived := 0
				for k, last := 1, calls; k <= last; k++ {
					m.FailAt(k)
					err := session(opts, beforeClose)
					m.FailAt(0)
					require.Zero(t, m.Counts(), "call %d: %v", k, err)
					if err == nil {
						survived++
						continue
					}
					var driver *gpu.DriverError
					require.ErrorAs(t, err, &driver, "call %d", k)
					require.Equal(t, 304, driver.Code)
					require.NotEmpty(t, driver.Op)
				}
				want := 3 // to do without stream-ordered memory, and without pinned memory of writes and of reads
				if cache {
					want++ // and to compile what cannot be loaded from the cache
				}
				require.Equal(t, want, survived)
				require.NoError(t, session(opts, beforeClose), "the next device works")
			})
		}
	}
}

func TestOutOfMemoryInTheMiddle(t *testing.T) {
	for _, e := range platforms {
		e.Memory = 1 << 20
		d := emulator.Open(t, e)
		var all []hip.Ptr
		var err error
		for err == nil {
			var p hip.Ptr
			if p, err = d.Alloc(100_000); err == nil {
				all = append(all, p)
			}
		}
		require.Len(t, all, 10)
		require.ErrorIs(t, err, hip.ErrOutOfMemory)
		require.ErrorContains(t, err, "hip: 100000 bytes asked for: ")
		bytes, live := hiptest.InUse(d)
		require.Equal(t, [2]int{1_000_000, 10}, [2]int{int(bytes), live})
		require.NoError(t, d.Write(all[9], []byte{1}), "the device goes on")
		require.NoError(t, d.Free(all[0]))
		require.NoError(t, d.Sync())
		all[0], err = d.Alloc(100_000)
		require.NoError(t, err, "after something was freed")
	}
}

// wild writes at an index that the caller gives.
type wildArgs struct {
	Y  hip.Ptr // float32
	At int64
}

var wild = hip.NewKernel("test_wild", `
struct Wild { float *y; int64 at; };
KERNEL(64) void test_wild(Wild a) { a.y[a.at] = 1; }
`, func(b *hip.Blocks, a *wildArgs) { hip.Out[float32](b, a.Y.Add(4*a.At), 1)[0] = 1 })

// requireBlamed checks that a fault is blamed on one kernel.
func requireBlamed(t *testing.T, err error, kernel string) {
	t.Helper()
	require.ErrorIs(t, err, hip.ErrFault)
	require.True(t, strings.HasPrefix(err.Error(), "hip: kernel "+kernel+": "), "%v", err)
}

func TestFaults(t *testing.T) {
	for _, e := range platforms {
		m := emulator.New(t, e)
		fault := func(opts hip.OpenOptions, before int) error {
			d := must(hip.Open(0, opts))
			y := must(hip.Upload(d, values(64)))
			for range before {
				require.NoError(t, scaleOn(d, y, 64, 2))
			}
			err := wild.Launch(d, hip.Grid{Blocks: 1, Threads: 1}, &wildArgs{Y: y, At: 64})
			if !opts.Blocking {
				require.NoError(t, err)
				err = d.Sync()
			}
			require.Error(t, err)
			require.Equal(t, err, d.Sync(), "the fault stays")
			require.Equal(t, err, d.Write(y, []byte{1}))
			require.Equal(t, err, scaleOn(d, y, 64, 2))
			require.NoError(t, d.Free(y))
			require.NoError(t, d.Close())
			require.Zero(t, m.Counts())
			return err
		}
		requireBlamed(t, fault(m.Options(), 0), wild.Name)

		err := fault(m.Options(), 2)
		var one *gpu.FaultError
		require.ErrorAs(t, err, &one)
		require.Equal(t, 3, one.Launches)
		require.Equal(t, wild.Name, one.Last)
		var driver *gpu.DriverError
		require.ErrorAs(t, err, &driver)
		require.Equal(t, 719, driver.Code)

		opts := m.Options()
		opts.Blocking = true
		requireBlamed(t, fault(opts, 2), wild.Name)
		require.NoError(t, session(m.Options(), func() {}), "the next device works")
	}
}

// Kernels that do not compile, in the three ways there are.
type noArgs struct{ A int32 }

func nothing(*hip.Blocks, *noArgs) {}

var (
	broken  = hip.NewKernel("test_broken", "struct A { int32 a; };\nKERNEL(1) void test_broken(A a) { undeclared(a); }\n", nothing)
	missing = hip.NewKernel("test_missing", "struct A { int32 a; };\nKERNEL(1) void test_another(A) {}\n", nothing)
	larger  = hip.NewKernel("test_larger", "struct A { int32 a, b; };\nKERNEL(1) void test_larger(A) {}\n", nothing)
)

func TestKernelsThatDoNotCompile(t *testing.T) {
	for _, e := range platforms {
		d := emulator.Open(t, e)
		for _, c := range []struct {
			kernel *hip.KernelOf[noArgs]
			log    []string
		}{
			{broken, []string{"test_broken.hip:2", "undeclared"}},
			{missing, []string{"arguments of test_missing.hip", "test_missing"}},
			{larger, []string{"the argument struct of test_larger has another size in Go"}},
		} {
			for range 2 {
				err := c.kernel.Launch(d, hip.Grid{Blocks: 1, Threads: 1}, &noArgs{})
				first, log, _ := strings.Cut(err.Error(), "\n")
				require.Regexp(t, "^hip: kernel "+c.kernel.Name+" for (gfxemulated64|sm_90): ", first)
				for _, text := range c.log {
					require.Contains(t, log, text)
				}
			}
		}
		err := hip.Compile(t.Context(), d, &scale.Kernel, &broken.Kernel, &sourceless.Kernel, &larger.Kernel)
		require.ErrorContains(t, err, "test_broken")
		require.ErrorContains(t, err, "test_larger")
		y := must(hip.Upload(d, values(64)))
		require.NoError(t, scaleOn(d, y, 64, 2), "the others are ready")
		require.NoError(t, expect(d, y, 64, 2))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, hip.Compile(canceled, d, &wild.Kernel), context.Canceled)
	}
}

func TestCodeCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	m := emulator.New(t, emulator.Settings{})
	opts := m.Options()
	opts.CacheDir = dir
	entries := func() []string { return must(filepath.Glob(filepath.Join(dir, "*"))) }

	// run uses one kernel and returns the programs that were compiled for it.
	run := func() bool {
		m.FailAt(0)
		d := must(hip.Open(0, opts))
		y := must(hip.Upload(d, values(64)))
		before := m.FailAt(0)
		require.NoError(t, scaleOn(d, y, 64, 2))
		calls := m.FailAt(0)
		require.Positive(t, before)
		require.NoError(t, expect(d, y, 64, 2))
		require.NoError(t, d.Close())
		return calls > 5 // select, load, function, launch and no more
	}
	require.True(t, run())
	require.Len(t, entries(), 1, "one entry, no temporary file")
	require.False(t, run(), "from the cache")

	entry := entries()[0]
	whole := must(os.ReadFile(entry))
	for name, bad := range map[string][]byte{
		"empty":        nil,
		"checksum cut": whole[:20],
		"cut":          whole[:len(whole)/2],
		"one bit":      append(append([]byte{}, whole[:len(whole)-1]...), whole[len(whole)-1]^1),
		"first bit":    append([]byte{whole[0] ^ 1}, whole[1:]...),
	} {
		require.NoError(t, os.WriteFile(entry, bad, 0o644))
		require.True(t, run(), "%s: compiled anew", name)
		require.Equal(t, len(whole), len(must(os.ReadFile(entry))), "%s: written anew", name)
		require.False(t, run(), name)
	}

	opts.CacheDir = os.DevNull
	require.True(t, run())
	opts.CacheDir = filepath.Join(entry, "a file is no folder")
	require.True(t, run(), "a cache that cannot be written is not an error")
}
