package hip

import "unsafe"

// Ptr is an address in a device's memory. The zero Ptr stands for an argument that is not
// given.
type Ptr uint64

// Add returns the address n bytes after p.
func (p Ptr) Add(n int64) Ptr { return p + Ptr(n) }

// Info describes a device.
type Info struct {
	Name string // for people: "CPU, 16 threads", "AMD Instinct MI300X"

	// Kind is what runs the kernels: "cpu", "reference", "hip" (a GPU of AMD) or "cuda" (a
	// GPU of NVIDIA).
	Kind string

	// Threads is how many workers take blocks of a launch at the same time: goroutines of
	// a CPU device, compute units of a GPU. A launch of fewer blocks leaves some idle. A
	// compute unit works on several blocks at once where their registers allow it.
	Threads int

	// Activations is how products round what they multiply with weights, see
	// [HostOptions]: where the machine cannot round so, ActivationsExact.
	Activations Activations

	// Warpgroups reports whether the GPU has instructions by which four waves multiply
	// together: NVIDIA's Hopper, with code of NVRTC 12.0 or later.
	Warpgroups bool

	// MatrixUnits reports whether the GPU multiplies tiles of bfloat16 by instructions of
	// their own: NVIDIA's from compute capability 8.0 on, AMD's from CDNA 2 and RDNA 3 on.
	MatrixUnits bool
}

// IsGPU reports whether the device is a GPU, which runs kernels from their HIP source.
func (i Info) IsGPU() bool { return i.Kind == "hip" || i.Kind == "cuda" }

// Device is memory and an in-order queue of launches.
//
// All methods are safe for concurrent use. Write, Read, Copy and Launch take effect in the
// order in which one goroutine calls them; between goroutines the caller must order calls
// that depend on each other. A range that is not wholly inside one live allocation is an
// [ErrAccess], and the call changes nothing. A range of no bytes is always accepted.
//
// Besides [Adopt] and [Import] some methods are found by an interface of the caller's own: a
// GPU's Fill (read a file straight into upload memory) and AllocShared (memory that kernels
// and the host have in common), and every device's
//
//	CheckRange(p Ptr, n int64, write bool) error
//
// which is an [ErrAccess] unless the n bytes at p lie in one live allocation, adoption or
// import, and may be written if write is set.
type Device interface {
	Info() Info

	// Alloc returns n zeroed bytes, aligned to at least 64. n = 0 returns the zero Ptr. The
	// error wraps [ErrOutOfMemory] if memory is short or n is negative.
	Alloc(n int64) (Ptr, error)

	// Free returns an allocation, or ends an adoption or import. p is the address that
	// Alloc, Adopt or Import was about; any other, one inside the memory too, is an
	// [ErrAccess]. Work queued before may still use the memory: Free takes effect after it,
	// in the order of the queue. Free(0) does nothing. After an error that is neither
	// [ErrAccess] nor [ErrClosed] the memory is still the caller's, to be freed once more.
	Free(p Ptr) error

	// Write copies src to dst. src may be reused when Write returns.
	Write(dst Ptr, src []byte) error

	// Read copies len(dst) bytes at src to dst, after all work queued before.
	Read(dst []byte, src Ptr) error

	// Copy copies n bytes on the device. The ranges must not overlap.
	Copy(dst, src Ptr, n int64) error

	// Launch queues k over grid. args points to the kernel's argument struct and is not
	// kept. A grid of no blocks does nothing. The text of an error contains "kernel NAME:
	// ". A device may report a kernel's fault at a later Sync.
	Launch(k *Kernel, grid Grid, args unsafe.Pointer) error

	// Sync waits for all queued work and returns its first error.
	Sync() error

	// Close frees everything. Calls after it return [ErrClosed].
	Close() error
}

// Grid is the size of a launch.
type Grid struct {
	Blocks  int // independent pieces of work
	Threads int // threads of a block on a GPU; 0: the kernel's own. CPU devices ignore it

	// BlockCost is roughly the number of bytes that one block touches. CPU devices use it
	// to decide how many threads a launch is worth; 0 means a small block.
	BlockCost int

	// Activations is how products of this launch round what they multiply with weights on a
	// CPU: [ActivationsBF16x2] or [ActivationsBF16], as a device would that was opened with it,
	// see [HostOptions]. Any other value, and on other devices all, leave it as the device has
	// it.
	Activations Activations
}
