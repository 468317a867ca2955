package hip

import "github.com/drafthead/drafthead/hip/internal/fail"

// What a caller acts on. An error of a device wraps one of them, or none, and its text
// says the rest: the kernel, the range, the driver's own words.
var (
	// ErrClosed is a call of a device, or a graph, after its Close.
	ErrClosed error = fail.Closed

	// ErrOutOfMemory is an allocation that failed. The device goes on.
	ErrOutOfMemory error = fail.OutOfMemory

	// ErrAccess is a range that is not wholly inside one live allocation, or a write to
	// memory that was adopted for reading. The device goes on.
	ErrAccess error = fail.Access

	// ErrNoDevice is a GPU that is not there, or that no usable driver speaks for.
	ErrNoDevice error = fail.NoDevice

	// ErrFault is the end of a GPU: a kernel, of the library or of an engine that shares
	// the GPU, has left it in an undefined state. Close it; another process can go on.
	ErrFault error = fail.Fault

	// ErrMismatch is what a device computed otherwise than the reference; see [Check].
	ErrMismatch error = fail.Mismatch
)
