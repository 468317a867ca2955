package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/hip"
)

// DeviceUsage describes the values of a -device flag.
const DeviceUsage = "`device` that runs the head: cpu, reference (plain float64 twins, slow), or hip[:n], GPU n through HIP or CUDA"

// ErrDeviceName is a -device flag that names no device.
var ErrDeviceName = errors.New("want cpu, reference or hip[:n]")

// Device opens the device that a -device flag names. The caller closes it. A GPU that
// is not there is a [hip.ErrNoDevice].
func Device(name string) (hip.Device, error) {
	switch kind, number, numbered := strings.Cut(name, ":"); kind {
	case "cpu", "reference":
		if numbered {
			break
		}
		if kind == "cpu" {
			return hip.NewHost(), nil
		}
		return hip.NewReference(), nil
	case "hip":
		if !numbered {
			number = "0"
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 {
			break
		}
		d, err := hip.Open(n)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", name, err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("device %q: %w", name, ErrDeviceName)
}
