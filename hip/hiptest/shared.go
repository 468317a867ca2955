package hiptest

import (
	"os"
	"path/filepath"
	"testing"
)

// RequireShared is the environment variable that makes tests fail rather than
// skip where the reference data is missing, when it is "1".
const RequireShared = "DRAFTHEAD_REQUIRE_SHARED"

// Shared returns the path of a file or folder of the reference data, which lies
// in the folder shared beside the repository and does not come with it. Where it
// is missing the test is skipped, or fails if [RequireShared] says so.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(append([]string{root, "..", "shared"}, elem...)...)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv(RequireShared) == "1" {
			t.Fatalf("reference data is required by %s: %v", RequireShared, err)
		}
		t.Skipf("reference data does not come with the repository: %v", err)
	}
	return path
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
