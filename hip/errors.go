package hip

import "github.com/drafthead/drafthead/hip/internal/fail"

// Errors that a caller can act on. An error of a device wraps one of them, or none; its
// text adds the kernel, the range and the driver's own words.
var (
	// ErrClosed is a call of a device or a graph that was closed before.
	ErrClosed error = fail.Closed

	// ErrOutOfMemory is an allocation that failed. The device can still be used.
	ErrOutOfMemory error = fail.OutOfMemory

	// ErrAccess is a range that is not wholly inside one live allocation, or a write to
	// memory that was adopted for reading. The device can still be used.
	ErrAccess error = fail.Access

	// ErrNoDevice is a GPU that is not there, or has no usable driver.
	ErrNoDevice error = fail.NoDevice

	// ErrFault is a kernel, of the library or of an engine that shares the GPU, that has
	// left the GPU in an undefined state. Close the device; another process can use the
	// GPU.
	ErrFault error = fail.Fault

	// ErrGroup is a [Group] that has failed: a rank has ended, did not come in time, or was
	// given other work. Close it and form a new one.
	ErrGroup error = fail.Group
)
