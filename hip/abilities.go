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

// CheckRange returns an [ErrAccess] unless the n bytes at p lie in one live allocation,
// adoption or import of d, and may be written if write is set, so that a caller can name
// the argument that is wrong before anything runs. It waits for nothing and touches no
// memory. A device that cannot say has no method of this name, and the result is nil; all
// devices of this package can.
func CheckRange(d Device, p Ptr, n int64, write bool) error {
	if r, ok := As[rangeChecker](d); ok {
		return r.CheckRange(p, n, write)
	}
	return nil
}

type rangeChecker interface {
	CheckRange(p Ptr, n int64, write bool) error
}

// accountant is a device that knows what it has given out: the bytes, and the number of
// live allocations and adoptions. Adopted bytes are the caller's and are not counted.
type accountant interface {
	InUse() (bytes int64, live int)
}

// Adopter is a device that can use the caller's memory in place.
type Adopter interface {
	// Adopt makes mem readable, and writable if writable is set, at the
	// returned address until it is given to Free. mem must stay valid and
	// unmoved until then. An empty mem returns the zero Ptr.
	Adopt(mem []byte, writable bool) (Ptr, error)
}

// Importer is a device that works beside somebody else's code: on memory that an
// inference engine has allocated, hidden states and block tables, and in one order with
// what it queues.
type Importer interface {
	// Import makes the n bytes at p known, until p is given to Free. They stay the
	// caller's.
	Import(p Ptr, n int64) error

	// Stream returns the hipStream_t or CUstream that all work of the device lies in.
	Stream() uintptr
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

// timer is a device that has a clock of its own. Time returns how long the device takes
// for what work queues, and waits for it. What other goroutines queue meanwhile counts as
// well.
type timer interface {
	Time(work func() error) (time.Duration, error)
}

// Compile makes kernels ready to be launched on d, several at a time, which it otherwise does
// at the first launch of each. Kernels without a source are passed over. The error joins one
// for every kernel that does not compile, which names it and has what the compiler said;
// lines count from the first of the kernel's source. A device that compiles nothing has no
// method Compile, and its kernels are ready.
func Compile(ctx context.Context, d Device, kernels ...*Kernel) error {
	if c, ok := As[compiler](d); ok {
		return c.Compile(ctx, kernels...)
	}
	return nil
}

type compiler interface {
	Compile(ctx context.Context, kernels ...*Kernel) error
}

// capturer is a device that records a sequence of launches once and replays it as
// one. Callers have [Replayer].
type capturer interface {
	// Capture calls record with a device that records instead of running: Launch and
	// Copy only, everything else is refused. Other goroutines may use d meanwhile. The
	// recording keeps the arguments and addresses of its launches; the memory has to live
	// as long.
	//
	// launch queues the sequence, in the order of the device's other work. release frees
	// it, after the work queued before; launch then returns [ErrClosed].
	Capture(record func(d Device) error) (launch, release func() error, err error)
}
