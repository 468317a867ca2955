package mtp_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// A manifest of folders as users of other engines had them, and what a loader says.
type troubleCase struct {
	loads    bool
	contains string // in the error, or in the report
	why      string
}

func troubleCases(t *testing.T, elem ...string) map[string]troubleCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(hiptest.Shared(t, elem...), "manifest.json"))
	require.NoError(t, err)
	var entries map[string]struct {
		Loads         bool   `json:"loads"`
		Contains      string `json:"contains"`
		Why           string `json:"why"`
		MustFail      *bool  `json:"must_fail"`
		ErrorContains string `json:"error_contains"`
		Reason        string `json:"reason"`
	}
	require.NoError(t, json.Unmarshal(data, &entries))
	require.NotEmpty(t, entries)
	cases := make(map[string]troubleCase)
	for name, e := range entries {
		if cases[name] = (troubleCase{e.Loads, e.Contains, e.Why}); e.MustFail != nil {
			cases[name] = troubleCase{!*e.MustFail, e.ErrorContains, e.Reason}
		}
	}
	return cases
}

// weightsElsewhere is the text that stands for a file of the golden cases.
var weightsElsewhere = regexp.MustCompile(`^(?:/\S*/)?(golden/[\w./-]+)\s*$`)

// troubleFolder returns the folder of a case, in which no file stands for another.
func troubleFolder(t *testing.T, elem ...string) string {
	t.Helper()
	folder := hiptest.Shared(t, elem...)
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		require.NoError(t, err)
		if m := weightsElsewhere.FindSubmatch(bytes.TrimSpace(data[:min(len(data), 512)])); m != nil {
			data, err = os.ReadFile(hiptest.Shared(t, strings.Split(string(m[1]), "/")...))
			require.NoError(t, err)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, e.Name()), data, 0o600))
	}
	return dir
}

// TestTroubleCheckpoints: what other engines choke on loads, or is refused with what leads
// to the cause; Inspect and Load say the same.
func TestTroubleCheckpoints(t *testing.T) {
	for _, manifest := range [][]string{{"trouble"}, {"golden-next", "broken"}, {"golden", "broken"}} {
		cases := troubleCases(t, manifest...)
		for _, name := range slices.Sorted(maps.Keys(cases)) {
			c := cases[name]
			t.Run(strings.Join(append(manifest, name), "/"), func(t *testing.T) {
				dir := troubleFolder(t, append(slices.Clone(manifest), name)...)
				_, report, inspectErr := mtp.Inspect(dir, mtp.Options{})
				head, err := mtp.Load(t.Context(), dir, mtp.Options{})
				if !c.loads {
					require.Error(t, err, c.why)
					require.ErrorContains(t, err, c.contains)
					require.EqualError(t, inspectErr, err.Error())
					return
				}
				require.NoError(t, inspectErr, c.why)
				require.NoError(t, err, c.why)
				require.Contains(t, report.String(), c.contains)
				require.NoError(t, head.Close())
			})
		}
	}
}
