// Package need says what tests need of a machine.
package need

import (
	"os"
	"testing"
)

// Absent ends a test for want of something that a machine may not have: the test
// is skipped, or fails where the environment variable DRAFTHEAD_REQUIRE_ and the
// word is 1. Words are SHARED, the reference data beside the repository; GPU; and COMPILER,
// a compiler of kernels for GPUs that are not there. err says what is missing.
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
