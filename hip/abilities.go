package hip

import (
	"context"
	"errors"
	"time"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// A device may have abilities beyond the nine methods of [Device]. Each is a small
// interface, declared where it is used; [As] finds it. Those that engines use are functions
// here.

// As returns the ability T of d: d itself, if it has the methods of T, or what d wraps. A
// wrapper chooses which abilities of the wrapped device it passes on, by having one of
// these methods:
//
//	Unwrap() Device       // passes on every ability of the device that it returns
//	As(ability any) bool  // stores the ability in the *T that it is given, and reports
//	                      // whether there is one
//
// With neither it offers only its own. [Check] passes on those that it can mirror.
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

// rangeChecker is a device that knows what memory it has given out.
type rangeChecker interface {
	// CheckRange returns an [ErrAccess] unless the n bytes at p lie in one live allocation,
	// adoption or import of the device, and may be written if write is set, so that a
	// caller can name the wrong argument before anything runs. It waits for nothing and
	// touches no memory.
	CheckRange(p Ptr, n int64, write bool) error
}

// accountant is a device that knows what it has given out: the bytes, and the number of
// live allocations and adoptions. Adopted bytes are the caller's and are not counted.
type accountant interface {
	InUse() (bytes int64, live int)
}

// Adopt lets kernels use the caller's own memory in place, on a CPU device. It makes mem
// readable, and writable if writable is set, at the address that it returns, until that is
// given to Free. mem must stay valid and unmoved until then; a launch or a copy that reads
// bytes of a mapped file that was cut short is an [ErrAccess]. An empty mem returns the zero
// Ptr. The error wraps [errors.ErrUnsupported] if d has no method Adopt; a device of your
// own passes on one with the parameters and results of this function but d.
func Adopt(d Device, mem []byte, writable bool) (Ptr, error) {
	if a, ok := As[adopter](d); ok {
		return a.Adopt(mem, writable)
	}
	return 0, fail.With(errors.ErrUnsupported, "adopt")
}

type adopter interface {
	Adopt(mem []byte, writable bool) (Ptr, error)
}

// Import lets kernels use the n bytes at p, memory of the same GPU that other code has
// allocated, such as an inference engine's hidden states, until p is given to Free. The
// caller keeps owning the memory. The error wraps [errors.ErrUnsupported] if d has no
// method Import.
//
// A GPU keeps its work in one order with an engine's if both use one stream: the engine's
// (see [OpenOptions]), or the device's own, a hipStream_t or CUstream, which its method
// Stream() uintptr returns.
func Import(d Device, p Ptr, n int64) error {
	if i, ok := As[importer](d); ok {
		return i.Import(p, n)
	}
	return fail.With(errors.ErrUnsupported, "import")
}

type importer interface {
	Import(p Ptr, n int64) error
	Stream() uintptr
}

// sharer is a device whose kernels reach memory of the host. They reach it over the bus, so
// use it for what is written once and read once: a kernel that copies it costs less than a
// call of the driver.
type sharer interface {
	// AllocShared returns n zero bytes, at least one. Kernels reach them at the address and
	// the host in the slice, until Free. A kernel sees what the host wrote before the
	// launch was queued; the host sees what a kernel wrote once it has waited for it.
	// Nothing keeps the host from writing too early.
	//
	// Write, Read and Copy take the address too; Write and Read then wait for all queued
	// work.
	AllocShared(n int64) (Ptr, []byte, error)
}

// filler is a device that lets the caller read a file straight into its upload memory,
// without a copy on the way.
type filler interface {
	// Fill writes n bytes at dst. It calls read for one part after another, in order, with
	// the part's offset, while the device copies the parts before it. Several goroutines
	// that fill different ranges at once are faster than one, which reads slower than a GPU
	// copies. Other writes may wait meanwhile, so read must not use the device. If Fill
	// fails, part of the range may have been written.
	Fill(dst Ptr, n int64, read func(part []byte, off int64) error) error
}

// timer is a device that has a clock of its own. Time calls work, waits for what it queues,
// and returns how long the device took. What other goroutines queue meanwhile counts as
// well.
type timer interface {
	Time(work func() error) (time.Duration, error)
}

// Compile makes kernels ready to be launched on d, several at a time. Otherwise a GPU
// compiles each at its first launch. Compile skips kernels without a source, and does
// nothing if d has no method Compile. The error joins one for every kernel that does not
// compile; each names its kernel and quotes the compiler, whose line numbers count from the
// first line of the kernel's source.
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
	// Capture calls record with a device that records instead of running. It accepts Launch
	// and Copy, and refuses everything else. Other goroutines may use d meanwhile. The
	// recording keeps the arguments and addresses of its launches; their memory must live
	// until release.
	//
	// launch queues the sequence, in order with the device's other work. release frees it,
	// after the work queued before; launch then returns [ErrClosed].
	Capture(record func(d Device) error) (launch, release func() error, err error)
}
