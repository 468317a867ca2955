package hip

import (
	"errors"
	"fmt"
	"unsafe"
)

// Ptr is an address in a device's memory. The zero Ptr is no memory; it stands
// for an argument that is not given.
type Ptr uint64

// Add returns the address n bytes behind p.
func (p Ptr) Add(n int64) Ptr { return p + Ptr(n) }

// Info describes a device.
type Info struct {
	Name    string // for people: "CPU, 16 threads", "AMD Instinct MI300X"
	Kind    string // "cpu", "reference", "hip" or "cuda"
	Threads int    // goroutines or compute units that work at the same time
}

// Device is memory and an in-order queue of launches.
//
// All methods are safe for concurrent use. Write, Read, Copy and Launch take
// effect in the order in which one goroutine calls them; between goroutines the
// caller orders what depends on each other. A range that is not wholly inside
// one live allocation is an [AccessError] and changes nothing.
type Device interface {
	Info() Info

	// Alloc returns n zeroed bytes, aligned to at least 64. n = 0 returns the
	// zero Ptr. The error wraps [ErrOutOfMemory] where memory is short.
	Alloc(n int64) (Ptr, error)

	// Free returns an allocation, or ends an adoption, by the address that
	// Alloc or Adopt gave. Work queued before may still use the memory: Free
	// takes effect after it, in the order of the queue. Free(0) does nothing.
	Free(p Ptr) error

	// Write copies src to dst. src may be reused when Write returns.
	Write(dst Ptr, src []byte) error

	// Read copies len(dst) bytes at src to dst, after all work queued before.
	Read(dst []byte, src Ptr) error

	// Copy copies n bytes on the device. The ranges must not overlap.
	Copy(dst, src Ptr, n int64) error

	// Launch queues k over grid. args points to the kernel's argument struct
	// and is not kept. A device may report a kernel's fault at a later Sync.
	Launch(k *Kernel, grid Grid, args unsafe.Pointer) error

	// Sync waits for all queued work and reports its first error.
	Sync() error

	// Close frees everything. Calls after it return [ErrClosed].
	Close() error
}

// Adopter is a device that can use the caller's memory in place.
type Adopter interface {
	// Adopt makes mem readable, and writable if writable is set, at the
	// returned address until it is given to Free. mem must stay valid and
	// unmoved until then. An empty mem returns the zero Ptr.
	Adopt(mem []byte, writable bool) (Ptr, error)
}

// Accountant is a device that knows what it has given out.
type Accountant interface {
	// InUse returns the bytes allocated and the number of live allocations and
	// adoptions. Adopted bytes are the caller's and are not counted.
	InUse() (bytes int64, live int)
}

// Grid is the size of a launch.
type Grid struct {
	Blocks  int // independent pieces of work
	Threads int // threads of a block on a GPU; 0: the kernel's own. CPU devices ignore it

	// BlockCost is about the bytes that one block touches. CPU devices use it
	// to decide how many threads a launch is worth; 0 means a small block.
	BlockCost int
}

var (
	ErrClosed      = errors.New("device is closed")
	ErrOutOfMemory = errors.New("out of device memory")
	ErrAccess      = errors.New("access outside of device memory")
)

// AccessError is a range that is not wholly inside one live allocation, or a
// write to memory that was adopted for reading. It wraps [ErrAccess].
type AccessError struct {
	Op  string // "read", "write", "free", ...
	Ptr Ptr
	Len int64
}

func (e *AccessError) Error() string {
	return fmt.Sprintf("%s of %d bytes at %#x: %v", e.Op, e.Len, uint64(e.Ptr), ErrAccess)
}

func (e *AccessError) Unwrap() error { return ErrAccess }

// MemoryError is an allocation that failed. It wraps [ErrOutOfMemory].
type MemoryError struct {
	Bytes int64
}

func (e *MemoryError) Error() string {
	return fmt.Sprintf("%v: %d bytes asked for", ErrOutOfMemory, e.Bytes)
}

func (e *MemoryError) Unwrap() error { return ErrOutOfMemory }

// LaunchError is a kernel that did not run to its end.
type LaunchError struct {
	Kernel string
	Err    error
}

func (e *LaunchError) Error() string { return "kernel " + e.Kernel + ": " + e.Err.Error() }

func (e *LaunchError) Unwrap() error { return e.Err }
