package hip

import (
	"errors"
	"fmt"
)

// OpenOptions say which GPU is opened and how. The zero value is what [Open] uses.
type OpenOptions struct {
	// Device counts from 0 over the GPUs of the platform, as [Devices] lists them.
	Device int

	// Platform is "hip" (AMD) or "cuda" (NVIDIA). Empty: the first of them that has
	// a GPU.
	Platform string

	// Library and Compiler are the files, or the folders, of the driver library
	// (libamdhip64, libcuda) and the run-time compiler (libhiprtc, libnvrtc). Empty:
	// where the system's loader looks, then where ROCm and CUDA install them. A
	// compiler within a Python installation has to be named here.
	Library, Compiler string

	// Stream is an engine's own hipStream_t or CUstream on the GPU, which everything
	// is then queued on; it must live as long as the device. 0: a stream of its own.
	Stream uintptr

	// CacheDir is where compiled kernels are kept. Empty: drafthead/kernels in the
	// user's cache folder. Where there is none, or it cannot be written, every process
	// compiles the kernels anew, which takes seconds and is no error.
	CacheDir string

	// NoCache compiles kernels anew in every process, and keeps none.
	NoCache bool

	// Blocking waits for the end of every launch, of a kernel or a [Graph], so that a
	// fault is an error of the launch that caused it.
	Blocking bool
}

// Open opens GPU n. Without one, the error wraps [ErrNoDevice].
//
// A GPU runs kernels that have a source; it compiles them for itself at their first
// launch, or when it is told to (it is a [Compiler]), and keeps them on disk. All
// its work lies in one stream. It is an [Accountant], [Capturer], [Timer],
// [Importer], [RangeChecker], [Filler], [Sharer] and [Streamer].
//
// A kernel that faults on the GPU leaves it in an undefined state: from then on
// every call but Free and Close returns the fault. It is a [LaunchError] where one
// kernel alone may have caused it, else a [FaultError]. AMD's driver may instead end
// the process. What can be checked before a launch is: see [Check] for the rest.
//
// Calls leave the calling thread's current device as it was.
//
// AMD GPUs need ROCm 5.2 or later, NVIDIA GPUs a driver of CUDA 11.4 or later and
// its run-time compiler. Both are looked for at run time; nothing of them is needed
// to build. Linux on amd64 is tested; on arm64, and on Windows, the same functions are
// loaded, which has not been run; elsewhere there is no GPU.
func Open(n int) (Device, error) { return OpenWith(OpenOptions{Device: n}) }

// OpenWith is [Open] with options.
func OpenWith(opts OpenOptions) (Device, error) {
	platforms, err := opts.platforms()
	if err != nil {
		return nil, err
	}
	none := &NoDeviceError{Index: opts.Device}
	for _, platform := range platforms {
		d, err := openDriver(platform, opts.Library)
		if err == nil {
			var n int
			n, err = d.deviceCount()
			switch {
			case err != nil:
			case opts.Device >= 0 && opts.Device < n:
				return openGPU(d, &opts)
			default:
				err = fmt.Errorf("%s has %d devices", d.name, n)
				if n > 0 { // the devices of this platform are those that are counted
					return nil, &NoDeviceError{Index: opts.Device, Reasons: []error{err}}
				}
			}
		}
		none.Reasons = append(none.Reasons, err)
	}
	return nil, none
}

func (o *OpenOptions) platforms() ([]string, error) {
	switch o.Platform {
	case "":
		return []string{platformHIP, platformCUDA}, nil
	case platformHIP, platformCUDA:
		return []string{o.Platform}, nil
	}
	return nil, fmt.Errorf("platform %q, want %q or %q", o.Platform, platformHIP, platformCUDA)
}

// GPU describes a device that [Open] can open.
type GPU struct {
	Index        int    // for Open
	Kind         string // "hip" or "cuda"
	Name         string
	Arch         string // "gfx942:sramecc+:xnack-", "sm_90"
	WaveSize     int    // threads that run in step
	ComputeUnits int
	Memory       int64 // bytes
}

// Devices lists the GPUs that [Open] numbers: those of the first platform that has
// any. No GPU is an empty list and no error.
func Devices() ([]GPU, error) { return DevicesOf(OpenOptions{}) }

// DevicesOf is [Devices] for the Platform and Library of options.
func DevicesOf(opts OpenOptions) ([]GPU, error) {
	platforms, err := opts.platforms()
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
