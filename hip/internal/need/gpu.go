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
	return opened(t, d, err)
}

// TwoGPUs opens the first two GPUs. Without them the test is skipped: a machine with one is
// complete.
func TwoGPUs(t testing.TB) []hip.Device {
	t.Helper()
	second, err := hip.Open(1)
	if errors.Is(err, hip.ErrNoDevice) {
		t.Skipf("no second GPU: %v", err)
	}
	second = opened(t, second, err)
	first, err := hip.Open(0)
	return []hip.Device{opened(t, first, err), second}
}

func opened(t testing.TB, d hip.Device, err error) hip.Device {
	t.Helper()
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
