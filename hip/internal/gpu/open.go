// Package gpu has the GPUs of package hip: those of AMD through HIP, those of NVIDIA
// through the CUDA driver API and NVRTC. Both are loaded at run time, without cgo. Package
// hip/gpu registers it, and hip.Open says what a caller may rely on.
//
//	open.go      which platform, which device
//	symbols.go   the functions of a driver and a compiler, one table for both platforms
//	library*.go  where libraries are looked for, and how a C function is called
//	driver.go    calls, and what the platforms do differently
//	gpu.go       a device's life
//	thread.go    the current device of a thread
//	memory.go, transfer.go, stages.go, launch.go, graph.go, timer.go
//	kernels.go, compiler.go, codecache.go
//	group*.go    RCCL and NCCL
//	fault.go, errors.go
package gpu

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Opener opens GPUs.
type Opener struct{}

// GPU is what a driver says of a device.
type GPU struct {
	Index        int
	Kind         string // of the platform
	Name         string
	Arch         string // "gfx942:sramecc+:xnack-", "sm_90"
	WaveSize     int    // threads that run in step
	ComputeUnits int
	Memory       int64 // bytes
	Shared       int   // bytes of a block, of NVIDIA
}

// Info is what a device says of itself.
func (g *GPU) Info() hip.Info {
	return hip.Info{Name: g.Name, Kind: g.Kind, Threads: max(1, g.ComputeUnits)}
}

// Open is hip.Open.
func (Opener) Open(n int, opts hip.OpenOptions) (hip.Device, error) {
	platforms, err := platformsOf(&opts)
	if err != nil {
		return nil, err
	}
	none := &NoDeviceError{Index: n}
	for _, platform := range platforms {
		d, err := openDriver(platform, opts.Library)
		if err == nil {
			var count int
			count, err = d.deviceCount()
			switch {
			case err != nil:
			case n >= 0 && n < count:
				return open(d, n, &opts)
			default:
				err = fmt.Errorf("%s has %d devices", d.name, count)
				if count > 0 { // the devices of this platform are those that are counted
					return nil, &NoDeviceError{Index: n, Reasons: []error{err}}
				}
			}
		}
		none.Reasons = append(none.Reasons, err)
	}
	return nil, none
}

func platformsOf(o *hip.OpenOptions) ([]string, error) {
	switch o.Platform {
	case "":
		return []string{platformHIP, platformCUDA}, nil
	case platformHIP, platformCUDA:
		return []string{o.Platform}, nil
	}
	return nil, &hip.InputError{Op: "hip: open", Field: "Platform", Got: o.Platform, Want: fmt.Sprintf("%q or %q", platformHIP, platformCUDA)}
}

// List describes the devices of the first platform that has any.
func List(opts hip.OpenOptions) ([]GPU, error) {
	platforms, err := platformsOf(&opts)
	if err != nil {
		return nil, err
	}
	for _, platform := range platforms {
		d, err := openDriver(platform, opts.Library)
		if err != nil {
			continue // no driver, or one that says there is no device
		}
		n, err := d.deviceCount()
		if err != nil || n == 0 {
			continue
		}
		gpus := make([]GPU, n)
		var errs []error
		for i := range gpus {
			gpus[i], _, err = d.describe(i)
			errs = append(errs, err)
		}
		return gpus, errors.Join(errs...)
	}
	return nil, nil
}
