package hiptest

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Shared returns the path of a file or folder of the reference data. Most of it is
// part of a clone of the repository, in mtp/testdata; what is too large for that
// lies in the folder shared beside the repository. Where it is in neither,
// [Absent] ends the test.
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
	Absent(t, "SHARED", fmt.Errorf("no reference data %s in mtp/testdata or ../shared", filepath.Join(elem...)))
	return ""
}

// Absent ends a test for want of something that a machine may not have: the test
// is skipped, or fails where the environment variable DRAFTHEAD_REQUIRE_ and the
// word is 1. Words are SHARED, the reference data beside the repository; GPU; and
// COMPILER, the ones that kernels are compiled with for GPUs that are not there.
// err says what is missing.
func Absent(t testing.TB, word string, err error) {
	t.Helper()
	if required(word) {
		t.Fatalf("DRAFTHEAD_REQUIRE_%s is 1: %v", word, err)
	}
	t.Skip(err)
}

// required reports whether a test that misses something must fail. MTP_REQUIRE_GPU
// is an older name of DRAFTHEAD_REQUIRE_GPU.
func required(word string) bool {
	return os.Getenv("DRAFTHEAD_REQUIRE_"+word) == "1" || word == "GPU" && os.Getenv("MTP_REQUIRE_GPU") == "1"
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
