package mtp_test

import (
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// brokenCase is an entry of manifest.json of the broken checkpoints.
type brokenCase struct {
	MustFail      bool   `json:"must_fail"`
	Reason        string `json:"reason"`
	ErrorContains string `json:"error_contains"`
}

// brokenCases returns the folder of the broken checkpoints and their manifest.
func brokenCases(t *testing.T) (dir string, cases map[string]brokenCase) {
	t.Helper()
	dir, err := filepath.Abs(hiptest.Shared(t, "golden", "broken"))
	require.NoError(t, err)
	dir, err = filepath.EvalSymlinks(dir) // mappings are listed by their real path
	require.NoError(t, err)
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(manifest, &cases))
	require.NotEmpty(t, cases)
	return dir, cases
}

// mappedBelow counts the mappings of files below dir, which only linux tells.
func mappedBelow(t *testing.T, dir string) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(maps), dir+string(filepath.Separator))
}

// TestBrokenManifestIsComplete: no folder is left out of the table below.
func TestBrokenManifestIsComplete(t *testing.T) {
	dir, cases := brokenCases(t)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var folders []string
	for _, e := range entries {
		if e.IsDir() {
			folders = append(folders, e.Name())
		}
	}
	require.ElementsMatch(t, folders, slices.Collect(maps.Keys(cases)))
}

func TestBrokenCheckpoints(t *testing.T) {
	dir, cases := brokenCases(t)
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		want := cases[name]
		t.Run(name, func(t *testing.T) {
			folder := filepath.Join(dir, name)
			_, report, inspectErr := mtp.Inspect(folder, mtp.Options{})
			require.Zero(t, mappedBelow(t, dir), "Inspect leaves a mapping")

			device := hip.NewHost()
			defer device.Close()
			before := goroutines()
			head, loadErr := mtp.Load(t.Context(), folder, mtp.Options{Device: device})
			if !want.MustFail {
				require.NoError(t, inspectErr)
				require.NoError(t, loadErr)
				require.Equal(t, report, head.Report())
				require.Equal(t, runtime.GOOS == "linux", mappedBelow(t, dir) > 0, "weights are used in place")
				require.NoError(t, head.Close())
			} else {
				require.Error(t, inspectErr, want.Reason)
				require.Error(t, loadErr, want.Reason)
				require.Nil(t, head)
				require.Nil(t, report)
				require.ErrorContains(t, loadErr, want.ErrorContains)
				require.Equal(t, inspectErr.Error(), loadErr.Error(), "Inspect and Load find the same")
			}
			bytes, live := hiptest.InUse(device)
			require.Zero(t, bytes)
			require.Zero(t, live)
			require.Zero(t, mappedBelow(t, dir), "a mapping is left")
			requireGoroutines(t, before)
		})
	}
}

// TestBrokenCheckpointOwnDevice: with no device given, a failed Load leaves none behind.
func TestBrokenCheckpointOwnDevice(t *testing.T) {
	dir, cases := brokenCases(t)
	before := goroutines()
	for name := range cases {
		if head, err := mtp.Load(t.Context(), filepath.Join(dir, name), mtp.Options{}); err == nil {
			require.NoError(t, head.Close())
		}
	}
	requireGoroutines(t, before)
	require.Zero(t, mappedBelow(t, dir))
}

// TestBrokenCheckpointsFromFS: files that are not mapped are refused alike.
func TestBrokenCheckpointsFromFS(t *testing.T) {
	dir, cases := brokenCases(t)
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		t.Run(name, func(t *testing.T) {
			fsys := unmapped{os.DirFS(filepath.Join(dir, name))}
			head, err := mtp.LoadFS(t.Context(), fsys, mtp.Options{})
			if cases[name].MustFail {
				require.ErrorContains(t, err, cases[name].ErrorContains)
				require.Nil(t, head)
				return
			}
			require.NoError(t, err)
			require.NoError(t, head.Close())
		})
	}
}

// unmapped hides that the files of an fs.FS are those of the operating system.
type unmapped struct{ fs.FS }

func (u unmapped) Open(name string) (fs.File, error) {
	f, err := u.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if dir, ok := f.(fs.ReadDirFile); ok {
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return dir, nil
		}
	}
	return struct{ fs.File }{f}, nil
}
