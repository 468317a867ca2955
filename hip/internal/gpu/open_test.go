package gpu_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/gpu"
)

func TestOpenWithoutADriver(t *testing.T) {
	for n, opts := range []hip.OpenOptions{
		{Library: filepath.Join(t.TempDir(), "libnone.so")},
		{Library: t.TempDir()},
		{Library: filepath.Join(t.TempDir(), "none"), Platform: "cuda"},
	} {
		_, err := hip.Open(n, opts)
		require.ErrorIs(t, err, hip.ErrNoDevice)
		var library *gpu.LibraryError
		require.ErrorAs(t, err, &library)
		require.Equal(t, opts.Library, library.Library)
		require.NotContains(t, err.Error(), "\n", "one line")
		gpus, err := gpu.List(opts)
		require.NoError(t, err)
		require.Empty(t, gpus)
	}
	_, err := hip.Open(0, hip.OpenOptions{Platform: "vulkan"})
	require.ErrorIs(t, err, hip.ErrInput)
	require.EqualError(t, err, `hip: open: Platform is vulkan, want "hip" or "cuda"`)
	_, err = hip.Open(-1)
	require.ErrorIs(t, err, hip.ErrNoDevice)
}

// TestDevicesAreThoseThatOpen, on a machine with GPUs as on one without.
func TestDevicesAreThoseThatOpen(t *testing.T) {
	gpus, err := gpu.List(hip.OpenOptions{})
	require.NoError(t, err)
	for i, g := range gpus {
		d, err := hip.Open(i)
		require.NoError(t, err)
		require.Equal(t, g.Info(), d.Info())
		require.NoError(t, d.Close())
	}
	_, err = hip.Open(len(gpus))
	require.ErrorIs(t, err, hip.ErrNoDevice)
}

func TestOpenWithTheWrongLibrary(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs a library that is everywhere")
	}
	m := emulator.New(t, emulator.Settings{})
	var library *gpu.LibraryError

	opts := m.Options()
	opts.Library = "libm.so.6"
	_, err := hip.Open(0, opts)
	require.ErrorIs(t, err, hip.ErrNoDevice)
	require.ErrorAs(t, err, &library)
	require.Equal(t, [2]string{"libm.so.6", "hipInit"}, [2]string{library.Library, library.Symbol})

	opts = m.Options()
	opts.Compiler = "libm.so.6"
	_, err = hip.Open(0, opts)
	require.ErrorAs(t, err, &library)
	require.Equal(t, [2]string{"libm.so.6", "hiprtcVersion"}, [2]string{library.Library, library.Symbol})
	require.NotContains(t, err.Error(), "\n")

	opts.Compiler = filepath.Join(t.TempDir(), "gone.so")
	_, err = hip.Open(0, opts)
	require.ErrorAs(t, err, &library)
	require.Equal(t, opts.Compiler, library.Library)
	require.ErrorContains(t, err, "run-time compiler for emulated GPU")

	damaged := filepath.Join(t.TempDir(), "damaged.so")
	require.NoError(t, os.WriteFile(damaged, []byte("not a library"), 0o600))
	opts = m.Options()
	opts.Library = damaged
	_, err = hip.Open(0, opts)
	require.ErrorAs(t, err, &library)
	require.ErrorContains(t, err, "damaged.so: file too short", "the loader's own reason")
	require.Equal(t, 1, strings.Count(err.Error(), damaged), "%v", err)
	require.NoError(t, session(m.Options(), func() {}), "the next device works")
}

func TestOpenWithAnOldDriver(t *testing.T) {
	for _, c := range []struct{ platform, got, want string }{{"hip", "4.3", "5.2"}, {"cuda", "10.2", "11.4"}} {
		m := emulator.New(t, emulator.Settings{Platform: c.platform, Version: 40_300_000})
		_, err := hip.Open(0, m.Options())
		require.ErrorIs(t, err, hip.ErrNoDevice)
		require.ErrorContains(t, err, ": version "+c.got+", want "+c.want+" or later")
	}
}

func TestOpenWithoutADevice(t *testing.T) {
	for _, platform := range []string{"hip", "cuda"} {
		m := emulator.New(t, emulator.Settings{Platform: platform, Devices: -1})
		_, err := hip.Open(0, m.Options())
		require.ErrorIs(t, err, hip.ErrNoDevice)
		var driver *gpu.DriverError
		require.ErrorAs(t, err, &driver)
		require.Equal(t, 100, driver.Code)
		listed, err := gpu.List(m.Options())
		require.NoError(t, err)
		require.Empty(t, listed)

		m = emulator.New(t, emulator.Settings{Platform: platform, Wave: 32, Devices: 2})
		for _, n := range []int{2, -1} {
			_, err = hip.Open(n, m.Options())
			require.ErrorIs(t, err, hip.ErrNoDevice)
			require.ErrorContains(t, err, "2 devices")
			var none *gpu.NoDeviceError
			require.ErrorAs(t, err, &none)
			require.Equal(t, n, none.Index)
		}
		opts := m.Options()
		opts.Platform = "" // the library has the names of both
		_, err = hip.Open(2, opts)
		var none *gpu.NoDeviceError
		require.ErrorAs(t, err, &none)
		require.Len(t, none.Reasons, 1, "devices of the other platform are not counted on")

		gpus, err := gpu.List(m.Options())
		require.NoError(t, err)
		require.Len(t, gpus, 2)
		for i, g := range gpus {
			require.Equal(t, i, g.Index)
			require.Equal(t, platform, g.Kind)
			require.Equal(t, 32, g.WaveSize)
			require.EqualValues(t, 8<<30, g.Memory)
			require.Equal(t, map[string]string{"hip": "gfxemulated32", "cuda": "sm_90"}[platform], g.Arch)
			require.Contains(t, g.Name, "emulated")
			require.Positive(t, g.ComputeUnits)
		}
		require.Equal(t, hip.Info{Name: gpus[0].Name, Kind: platform, Threads: gpus[0].ComputeUnits}, gpus[0].Info())
		require.True(t, gpus[0].Info().IsGPU())
	}
}

// A folder is looked through for the platform's own names.
func TestOpenFromAFolder(t *testing.T) {
	m := emulator.New(t, emulator.Settings{})
	code := must(os.ReadFile(m.Options().Library))
	dir := t.TempDir()
	for _, name := range strings.Fields("libamdhip64.so.6 libhiprtc.so.5") {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), code, 0o700))
	}
	// The copies are emulators of their own, as nobody configured them: one device, waves of 64.
	gpus, err := gpu.List(hip.OpenOptions{Library: dir})
	require.NoError(t, err)
	require.Len(t, gpus, 1)
	d, err := hip.Open(0, hip.OpenOptions{Library: dir, Compiler: dir, CacheDir: os.DevNull})
	require.NoError(t, err)
	require.NoError(t, d.Close())
}
