package mtp

import (
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// draftDevice is a device whose launches round what products multiply as
// Options.DraftActivations says.
type draftDevice struct {
	hip.Device
	activations hip.Activations
}

// Unwrap passes on the abilities of the device.
func (d *draftDevice) Unwrap() hip.Device { return d.Device }

func (d *draftDevice) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	grid.Activations = d.activations
	return d.Device.Launch(k, grid, args)
}

// drafting returns the device for what only leads to drafts, and is not kept. A GPU, or what
// records for one, ignores how it would round.
func (c *call) drafting(d hip.Device) hip.Device {
	if a := c.head.options.DraftActivations; a != hip.ActivationsExact && !d.Info().IsGPU() {
		return &draftDevice{d, a}
	}
	return d
}

// roundsDrafts reports whether DraftActivations can be a.
func roundsDrafts(a hip.Activations) bool {
	return a == hip.ActivationsExact || a == hip.ActivationsBF16x2 || a == hip.ActivationsBF16
}
