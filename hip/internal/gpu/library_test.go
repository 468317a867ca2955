//go:build linux && (amd64 || arm64)

package gpu

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCandidates(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{"rocm-6.9.1/lib", "rocm-6.10.0/lib", "rocm-5.7/lib"} {
		require.NoError(t, os.MkdirAll(filepath.Join(root, folder), 0o755))
	}
	s := search{groups: groups(named("a.7", "b.7"), named("a.6")), folders: named(filepath.Join(root, "rocm-*/lib"))}
	in := func(folder string, names ...string) (all []string) {
		for _, name := range names {
			all = append(all, filepath.Join(root, folder, name))
		}
		return all
	}
	require.Equal(t, slices.Concat(
		named("a.7", "b.7"), in("rocm-6.10.0/lib", "a.7", "b.7"), in("rocm-6.9.1/lib", "a.7", "b.7"), in("rocm-5.7/lib", "a.7", "b.7"),
		named("a.6"), in("rocm-6.10.0/lib", "a.6"), in("rocm-6.9.1/lib", "a.6"), in("rocm-5.7/lib", "a.6"),
	), s.candidates(""))
	require.Equal(t, in("rocm-5.7/lib", "a.7", "b.7", "a.6"), s.candidates(filepath.Join(root, "rocm-5.7/lib")), "a folder")
	require.Equal(t, named("/no/such.so"), s.candidates("/no/such.so"), "a file")
}

// TestCompilerSearch: the driver's own release comes first, from wherever, and for HIP
// what lies beside the driver.
func TestCompilerSearch(t *testing.T) {
	hip := compilerSearch(&driver{platform: platformHIP, name: "/opt/elsewhere/libamdhip64.so.7", version: 70_100_000})
	require.Equal(t, named("libhiprtc.so.7", "libamdhip64.so.7"), hip.groups[0])
	require.Equal(t, "/opt/elsewhere", hip.folders[0])
	for version, want := range map[int][]string{
		11_080: {"libnvrtc.so.11.2", "libnvrtc.so.11"}, 12_020: {"libnvrtc.so.12"}, 13_000: {"libnvrtc.so.13"}, 14_000: {"libnvrtc.so.14"},
	} {
		require.Equal(t, want, compilerSearch(&driver{platform: platformCUDA, name: "libcuda.so.1", version: version}).groups[0])
	}
}

// TestSearchGoesOn after a library that is there and is not the one looked for.
func TestSearchGoesOn(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "damaged.so")
	require.NoError(t, os.WriteFile(damaged, []byte("not a library"), 0o600))
	s := search{groups: groups(named(damaged, "libm.so.6", "libnone.so.1", "libc.so.6"))}
	var asked []string
	unwanted := errors.New("unwanted")
	open := func(wanted string) error {
		asked = nil
		return s.open("", func(_ uintptr, name string) error {
			asked = append(asked, name)
			if name != wanted {
				return unwanted
			}
			return nil
		})
	}
	require.NoError(t, open("libc.so.6"))
	require.Equal(t, named("libm.so.6", "libc.so.6"), asked)
	require.NoError(t, open("libm.so.6"))
	require.Equal(t, named("libm.so.6"), asked)
	require.ErrorContains(t, open(""), "damaged.so", "the first reason")
	s.groups[0] = s.groups[0][1:]
	require.ErrorIs(t, open(""), unwanted)
	s.groups[0] = named("libnone.so.1")
	require.ErrorContains(t, open(""), "libnone.so.1: not found")
}

// TestGroupLibraryWithoutFunction: a library that is not RCCL or NCCL, or an old one, is an
// error that names the function that it lacks.
func TestGroupLibraryWithoutFunction(t *testing.T) {
	for _, platform := range []string{platformHIP, platformCUDA} {
		_, err := openGroupLibrary(platform, "libm.so.6")
		var lacks *LibraryError
		require.ErrorAs(t, err, &lacks)
		require.Equal(t, LibraryError{Library: "libm.so.6", Symbol: "ncclGetVersion", Err: errAbsent}, *lacks)
		require.EqualError(t, err, "hip: libm.so.6: ncclGetVersion: not in this library")
	}
}
