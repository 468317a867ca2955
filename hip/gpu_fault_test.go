package hip_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

var platforms = []hiptest.Emulation{{Platform: "hip", Wave: 64}, {Platform: "cuda", Wave: 32}}

// session is a life of a device in which everything is used once.
func session(opts hip.OpenOptions, beforeClose func()) (err error) {
	d, err := hip.OpenWith(opts)
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
	if err := d.(hip.Compiler).Compile(context.Background(), &scale.Kernel); err != nil {
		return err
	}
	if _, err := d.(hip.Timer).Time(func() error { return scaleOn(d, x, n, 2) }); err != nil {
		return err
	}
	g, err := d.(hip.Capturer).Capture(func(r hip.Device) error {
		return errors.Join(r.Copy(y, x, 4*n), scaleOn(r, y, n, 2))
	})
	if err != nil {
		return err
	}
	z, host, err := hip.AllocSharedOf[float32](d.(hip.Sharer), n)
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
				m := hiptest.NewEmulator(t, e)
				opts := m.Options()
				opts.NoCache = !cache
				if !cache {
					opts.CacheDir = ""
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
					var driver *hip.DriverError
					require.ErrorAs(t, err, &driver, "call %d", k)
					require.Equal(t, 304, driver.Code)
					require.NotEmpty(t, driver.Op)
				}
				want := 1 // to do without stream-ordered memory
				if cache {
					want = 2 // and to compile what cannot be loaded from the cache
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
		d := hiptest.Emulated(t, e)
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
		var memory *hip.MemoryError
		require.ErrorAs(t, err, &memory)
		require.EqualValues(t, 100_000, memory.Bytes)
		bytes, live := d.(hip.Accountant).InUse()
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

func TestFaults(t *testing.T) {
	for _, e := range platforms {
		m := hiptest.NewEmulator(t, e)
		fault := func(opts hip.OpenOptions, before int) error {
			d := must(hip.OpenWith(opts))
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
		var launch *hip.LaunchError
		require.ErrorAs(t, fault(m.Options(), 0), &launch)
		require.Equal(t, wild.Name, launch.Kernel)

		err := fault(m.Options(), 2)
		var one *hip.FaultError
		require.ErrorAs(t, err, &one)
		require.Equal(t, 3, one.Launches)
		require.Equal(t, wild.Name, one.Last)
		var driver *hip.DriverError
		require.ErrorAs(t, err, &driver)
		require.Equal(t, 719, driver.Code)

		opts := m.Options()
		opts.Blocking = true
		require.ErrorAs(t, fault(opts, 2), &launch)
		require.Equal(t, wild.Name, launch.Kernel)
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
		d := hiptest.Emulated(t, e)
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
				var compile *hip.CompileError
				require.ErrorAs(t, err, &compile)
				require.Equal(t, c.kernel.Name, compile.Kernel)
				require.NotEmpty(t, compile.Arch)
				for _, text := range c.log {
					require.Contains(t, compile.Log, text)
					require.Contains(t, err.Error(), text)
				}
			}
		}
		err := d.(hip.Compiler).Compile(t.Context(), &scale.Kernel, &broken.Kernel, &count.Kernel, &larger.Kernel)
		require.ErrorContains(t, err, "test_broken")
		require.ErrorContains(t, err, "test_larger")
		y := must(hip.Upload(d, values(64)))
		require.NoError(t, scaleOn(d, y, 64, 2), "the others are ready")
		require.NoError(t, expect(d, y, 64, 2))
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, d.(hip.Compiler).Compile(canceled, &wild.Kernel), context.Canceled)
	}
}

func TestCodeCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	m := hiptest.NewEmulator(t, hiptest.Emulation{})
	opts := m.Options()
	opts.CacheDir = dir
	entries := func() []string { return must(filepath.Glob(filepath.Join(dir, "*"))) }

	// run uses one kernel and returns the programs that were compiled for it.
	run := func() bool {
		m.FailAt(0)
		d := must(hip.OpenWith(opts))
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

	opts.NoCache, opts.CacheDir = true, t.TempDir()
	require.True(t, run())
	require.Empty(t, must(os.ReadDir(opts.CacheDir)))
	opts.NoCache, opts.CacheDir = false, filepath.Join(entry, "a file is no folder")
	require.True(t, run(), "a cache that cannot be written is no error")
}
