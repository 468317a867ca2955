package hip

import (
	"context"
	"time"
)

// Beyond the nine methods of [Device] a device may have abilities. Each is a small
// interface; [As] finds it.

// As returns the ability T of d: d itself, where it has the methods of T, or what d wraps.
// A wrapper says what it offers of that by one of the methods
//
//	Unwrap() Device       // every ability of the device that it returns
//	As(ability any) bool  // stores the ability in the *T that it is given, and reports
//	                      // whether there is one
//
// and one that has neither offers its own abilities alone. [Check] offers those that it
// can mirror.
func As[T any](d Device) (ability T, ok bool) {
	for d != nil {
		if ability, ok = d.(T); ok {
			return ability, true
		}
		switch w := d.(type) {
		case interface{ As(ability any) bool }:
			ok = w.As(&ability)
			return ability, ok
		case interface{ Unwrap() Device }:
			d = w.Unwrap()
		default:
			return ability, false
		}
	}
	return ability, false
}

// Accountant is a device that knows what it has given out.
type Accountant interface {
	// InUse returns the bytes allocated and the number of live allocations and
	// adoptions. Adopted bytes are the caller's and are not counted.
	InUse() (bytes int64, live int)
}

// RangeChecker is a device that says beforehand whether memory is its own, so that a
// caller can name the argument that is wrong before anything runs. [NewHost],
// [NewReference], the GPUs of [Open] and what [Check] returns are.
type RangeChecker interface {
	// CheckRange returns an [ErrAccess] unless the n bytes at p lie in one live
	// allocation, adoption or import, and may be written if write is set. It waits for
	// nothing and touches no memory.
	CheckRange(p Ptr, n int64, write bool) error
}

// Adopter is a device that can use the caller's memory in place.
type Adopter interface {
	// Adopt makes mem readable, and writable if writable is set, at the
	// returned address until it is given to Free. mem must stay valid and
	// unmoved until then. An empty mem returns the zero Ptr.
	Adopt(mem []byte, writable bool) (Ptr, error)
}

// Importer is a device that can work on memory that somebody else has allocated on
// it: an inference engine's hidden states and block tables.
type Importer interface {
	// Import makes the n bytes at p known, until p is given to Free. They stay the
	// caller's.
	Import(p Ptr, n int64) error
}

// Sharer is a device whose kernels reach memory of the host's. They do so over the
// bus, so it is for what is written once and read once: a kernel that copies it costs
// less than the driver's call.
type Sharer interface {
	// AllocShared returns n zero bytes, at least one, that kernels reach at the address
	// and the host in the slice, until Free. What either writes the other sees only in
	// this order: the host's before a launch is queued, a kernel's once it was waited
	// for. Nothing keeps the host from writing too early.
	//
	// Write, Read and Copy take the address too; Write and Read then wait for all that
	// is queued.
	AllocShared(n int64) (Ptr, []byte, error)
}

// Filler is a device that takes bytes from where they are read, without a copy on
// the way.
type Filler interface {
	// Fill writes n bytes at dst, which read provides: it is called for one part
	// after the other, in order, with the part's offset, and while the device copies
	// those before. Other writes wait meanwhile, so read must not use the device. If
	// it fails, part of the range may have been written.
	Fill(dst Ptr, n int64, read func(part []byte, off int64) error) error
}

// Streamer is a device whose work lies in a stream of its platform.
type Streamer interface {
	// Stream returns the hipStream_t or CUstream that everything is queued on.
	Stream() uintptr
}

// Timer is a device that has a clock of its own.
type Timer interface {
	// Time returns how long the device takes for what work queues, and waits for it.
	// What other goroutines queue meanwhile counts as well.
	Time(work func() error) (time.Duration, error)
}

// Compiler is a device that compiles kernels, which it does at the first launch of
// each unless it is told before.
type Compiler interface {
	// Compile makes kernels ready to be launched, several at a time. Kernels without
	// a source are passed over. The error joins one for every kernel that does not
	// compile, which names it and has what the compiler said; lines count from the first
	// of the kernel's source.
	Compile(ctx context.Context, kernels ...*Kernel) error
}

// Capturer is a device that records a sequence of launches once and replays it as
// one.
type Capturer interface {
	// Capture calls record with a device that records instead of running: Launch and
	// Copy only, everything else is refused. Other goroutines may use d meanwhile. The
	// graph keeps the arguments and addresses of its launches; the memory has to live as
	// long.
	Capture(record func(d Device) error) (Graph, error)
}

// Graph is a recorded sequence.
type Graph interface {
	// Launch queues the sequence, in the order of the device's other work.
	Launch() error

	// Close frees the graph, after the work queued before.
	Close() error
}
