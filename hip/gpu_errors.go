package hip

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNoDevice is a GPU that is not there, or that no usable driver speaks for.
	ErrNoDevice = errors.New("no GPU device")

	// ErrNoSource is a kernel without a GPU side.
	ErrNoSource = errors.New("the kernel has no GPU side")

	// ErrRecording is a call that cannot be part of a [Graph].
	ErrRecording = errors.New("launches and copies only can be recorded")
)

// NoDeviceError says why there is no GPU of a number. It wraps [ErrNoDevice].
type NoDeviceError struct {
	Index   int
	Reasons []error // of each platform that was tried
}

func (e *NoDeviceError) Error() string {
	reasons := make([]string, len(e.Reasons))
	for i, r := range e.Reasons {
		reasons[i] = r.Error()
	}
	return fmt.Sprintf("%v %d: %s", ErrNoDevice, e.Index, strings.Join(reasons, "; "))
}

func (e *NoDeviceError) Unwrap() []error { return append([]error{ErrNoDevice}, e.Reasons...) }

// LibraryError is a driver or compiler library that cannot be used: it is missing,
// lacks a function, or is too old.
type LibraryError struct {
	Library string
	Symbol  string // the function that is missing, if one is
	Err     error
}

func (e *LibraryError) Error() string {
	if e.Symbol != "" {
		return fmt.Sprintf("%s: %s: %v", e.Library, e.Symbol, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Library, e.Err)
}

func (e *LibraryError) Unwrap() error { return e.Err }

// VersionError is a library that is older than what the device needs.
type VersionError struct {
	Got, Want string
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("version %s, want %s or later", e.Got, e.Want)
}

// DriverError is a call of the GPU's driver or compiler that failed.
type DriverError struct {
	Op   string // what the device was doing: "write", "launch", "compile", ...
	Call string // "hipMemcpyHtoDAsync"
	Code int    // of the platform
	Text string // the platform's own words
}

func (e *DriverError) Error() string {
	return fmt.Sprintf("%s: %s: error %d: %s", e.Op, e.Call, e.Code, e.Text)
}

// CompileError is a kernel that does not compile for a device.
type CompileError struct {
	Kernel string
	Arch   string // "gfx942", "sm_90"
	Log    string // what the compiler said; lines count from the source's first
	Err    error
}

func (e *CompileError) Error() string {
	text := fmt.Sprintf("kernel %s for %s: %v", e.Kernel, e.Arch, e.Err)
	if log := strings.TrimSpace(e.Log); log != "" {
		text += "\n" + log
	}
	return text
}

func (e *CompileError) Unwrap() error { return e.Err }

// FaultError is a fault on the GPU that one of several kernels has caused or, on a
// stream that is an engine's, its work. [OpenOptions.Blocking] finds out which.
type FaultError struct {
	Launches int    // kernels not known to have ended, those of graphs among them
	Last     string // the kernel launched last
	Err      error
}

func (e *FaultError) Error() string {
	return fmt.Sprintf("one of the %d kernels launched last, the newest of them %s: %v", e.Launches, e.Last, e.Err)
}

func (e *FaultError) Unwrap() error { return e.Err }
