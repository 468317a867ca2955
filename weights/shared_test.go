package weights

import (
	"os"
	"path/filepath"
	"testing"
)

// sharedDir returns a folder of the reference data that lies beside the
// repository. Without it the test is skipped, or fails where the data is required.
func sharedDir(t testing.TB, elem ...string) string {
	t.Helper()
	dir := filepath.Join(append([]string{"..", "..", "shared"}, elem...)...)
	if _, err := os.Stat(dir); err != nil {
		if os.Getenv("DRAFTHEAD_REQUIRE_SHARED") == "1" {
			t.Fatalf("reference data is required: %v", err)
		}
		t.Skipf("no reference data beside the repository: %v", err)
	}
	return dir
}
