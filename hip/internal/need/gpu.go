package need

import (
	"errors"
	"testing"

	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/gpu" // for Open
)

// GPU opens the first GPU for a test, which is over without one: see [Absent]. The device is
// closed at the end of the test.
func GPU(t testing.TB) hip.Device {
	t.Helper()
	d, err := hip.Open(0)
	if errors.Is(err, hip.ErrNoDevice) {
		Absent(t, "GPU", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
