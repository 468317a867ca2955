package gpu

import (
	"errors"
	"fmt"
	"strings"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// The errors of this package print "hip: " first and have a Bare text without it, which is
// what they contribute to an error that wraps them.

// NoDeviceError says why the GPU of a number is missing.
type NoDeviceError struct {
	Index   int
	Reasons []error // of each platform that was tried
}

func (e *NoDeviceError) Error() string { return "hip: " + e.Bare() }

func (e *NoDeviceError) Bare() string {
	reasons := make([]string, len(e.Reasons))
	for i, r := range e.Reasons {
		reasons[i] = fail.Bare(r)
	}
	return fmt.Sprintf("%s %d: %s", fail.NoDevice.Bare(), e.Index, strings.Join(reasons, "; "))
}

func (e *NoDeviceError) Unwrap() []error { return append([]error{fail.NoDevice}, e.Reasons...) }

// LibraryError is a driver or compiler library that cannot be used: it is missing,
// lacks a function, or is too old.
type LibraryError struct {
	Library string
	Symbol  string // the function that is missing, if one is
	Err     error
}

func (e *LibraryError) Error() string { return "hip: " + e.Bare() }

func (e *LibraryError) Bare() string {
	if e.Symbol != "" {
		return fmt.Sprintf("%s: %s: %v", e.Library, e.Symbol, e.Err)
	}
	return fmt.Sprintf("%s: %v", e.Library, e.Err)
}

func (e *LibraryError) Unwrap() error { return e.Err }

// errAbsent is a function that a library does not have.
var errAbsent = errors.New("not in this library")

// DriverError is a call of the GPU's driver or compiler that failed. It is a [fail.Fault]
// if the device does nothing more after it.
type DriverError struct {
	Op   string // what the device was doing: "write", "launch", "compile", ...
	Call string // "hipMemcpyHtoDAsync"
	Code int    // of the platform
	Text string // the platform's own words
}

func (e *DriverError) Error() string { return "hip: " + e.Bare() }

func (e *DriverError) Bare() string {
	return fmt.Sprintf("%s: %s: error %d: %s", e.Op, e.Call, e.Code, e.Text)
}

// Is reports that an error after which the device does nothing more is a fault.
func (e *DriverError) Is(target error) bool { return target == error(fail.Fault) && e.ends() }

// ends reports whether the device does nothing more after the error. The platforms have
// the same numbers.
func (e *DriverError) ends() bool {
	switch e.Code {
	case 214, // memory error that cannot be corrected
		226, // error that was contained
		700, // illegal address
		702, // the launch took too long
		710, // assertion
		714, // of the hardware's stack
		715, // illegal instruction
		716, // misaligned address
		717, // address of the wrong memory
		718, // illegal program counter
		719, // the launch failed
		721: // memory of the tensor units that was left
		return true
	}
	return false
}

// compileError is a kernel that does not compile for a device.
func compileError(kernel, arch, log string, err error) error {
	err = fail.With(err, "kernel %s for %s", kernel, arch)
	if log = strings.TrimSpace(log); log != "" {
		err = &logged{err, log}
	}
	return err
}

// logged is an error with what the compiler said below it. Lines of the log count from
// the first of the kernel's source.
type logged struct {
	err error
	log string
}

func (e *logged) Error() string { return "hip: " + e.Bare() }
func (e *logged) Bare() string  { return fail.Bare(e.err) + "\n" + e.log }
func (e *logged) Unwrap() error { return e.err }

// FaultError is a fault on the GPU that one of several kernels has caused or, on a stream
// that is an engine's, its work. [hip.OpenOptions.Blocking] finds out which.
type FaultError struct {
	Launches int    // kernels not known to have ended, those of graphs among them
	Last     string // the kernel launched last
	Err      *DriverError
}

func (e *FaultError) Error() string { return "hip: " + e.Bare() }

func (e *FaultError) Bare() string {
	return fmt.Sprintf("one of the %d kernels launched last, the newest of them %s: %s", e.Launches, e.Last, e.Err.Bare())
}

func (e *FaultError) Unwrap() error { return e.Err }
