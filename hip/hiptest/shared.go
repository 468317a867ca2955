package hiptest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/drafthead/drafthead/hip/internal/need"
)

// Shared returns the path of a file or folder of the reference data. Most of it is part of
// the repository, in mtp/testdata; what is too large for that lies in the folder shared
// beside the repository. If it is in neither, the test is skipped, or fails if
// DRAFTHEAD_REQUIRE_SHARED is 1.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{filepath.Join(root, "mtp", "testdata"), filepath.Join(root, "..", "shared")} {
		path := filepath.Join(append([]string{data}, elem...)...)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	need.Absent(t, "SHARED", fmt.Errorf("no reference data %s in mtp/testdata or ../shared", filepath.Join(elem...)))
	return ""
}

// moduleRoot is the folder of go.mod, at or above the test's own. It is relative,
// so that messages do not depend on the machine.
func moduleRoot() (string, error) {
	for root := "."; ; root = filepath.Join(root, "..") {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return root, nil
		}
		above, err := filepath.Abs(root)
		if err != nil {
			return "", err
		}
		if filepath.Dir(above) == above {
			return "", os.ErrNotExist
		}
	}
}
