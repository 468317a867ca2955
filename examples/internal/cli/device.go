package cli

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/hip"
)

// DeviceUsage describes the values of a -device flag.
const DeviceUsage = "`device` that runs the head: cpu, reference (plain float64 twins, slow) or hip[:n]"

// ErrNoGPU is a request for a device that this build cannot open.
var ErrNoGPU = errors.New("no GPU device: this version runs on cpu and reference")

// Device opens the device that a -device flag names. The caller closes it.
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
		if n, err := strconv.Atoi(number); numbered && (err != nil || n < 0) {
			break
		}
		return nil, fmt.Errorf("device %s: %w", name, ErrNoGPU)
	}
	return nil, fmt.Errorf("device %q: want cpu, reference or hip[:n]", name)
}
