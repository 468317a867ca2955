package hip

import (
	"context"
	"time"
)

// Compiler is a device that compiles kernels, which it does at the first launch of
// each unless it is told before.
type Compiler interface {
	// Compile makes kernels ready to be launched, several at a time. Kernels without
	// a source are passed over. The error joins a [CompileError] for every kernel
	// that does not compile.
	Compile(ctx context.Context, kernels ...*Kernel) error
}

// Capturer is a device that records a sequence of launches once and replays it as
// one.
type Capturer interface {
	// Capture calls record with a device that records instead of running: Launch and
	// Copy only, everything else returns [ErrRecording]. Other goroutines may use d
	// meanwhile. The graph keeps the arguments and addresses of its launches; the
	// memory has to live as long.
	Capture(record func(d Device) error) (Graph, error)
}

// Graph is a recorded sequence.
type Graph interface {
	// Launch queues the sequence, in the order of the device's other work.
	Launch() error

	// Close frees the graph, after the work queued before.
	Close() error
}

// Timer is a device that has a clock of its own.
type Timer interface {
	// Time returns how long the device takes for what work queues, and waits for it.
	// What other goroutines queue meanwhile counts as well.
	Time(work func() error) (time.Duration, error)
}

// Importer is a device that can work on memory that somebody else has allocated on
// it: an inference engine's hidden states and block tables.
type Importer interface {
	// Import makes the n bytes at p known, until p is given to Free. They stay the
	// caller's.
	Import(p Ptr, n int64) error
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

// Streamer is a device whose work lies in a stream of its platform.
type Streamer interface {
	// Stream returns the hipStream_t or CUstream that everything is queued on.
	Stream() uintptr
}
