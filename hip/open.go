package hip

import (
	"errors"
	"log/slog"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// OpenOptions say how [Open] opens a GPU. Open without options uses the zero value.
type OpenOptions struct {
	// Platform is "hip" (AMD) or "cuda" (NVIDIA). Empty: the first of the two that has a
	// GPU.
	Platform string

	// Library and Compiler are the files, or the folders, of the driver library
	// (libamdhip64, libcuda) and the run-time compiler (libhiprtc, libnvrtc). Empty: where
	// the system's loader looks, then where ROCm and CUDA install them. A compiler inside a
	// Python installation must be named here.
	Library, Compiler string

	// Stream is an engine's own hipStream_t or CUstream on the GPU. The device then queues
	// everything on it; it must live as long as the device. 0: the device makes a stream.
	Stream uintptr

	// CacheDir is the folder of compiled kernels. Empty: drafthead/kernels in the user's
	// cache folder. [os.DevNull]: nowhere. If there is none, or it cannot be written, every
	// process compiles the kernels again, which takes seconds; this is not an error. A
	// folder or entry that others could have written or replaced is not read, since its
	// code would run: it must belong to the user or the administrator, and nobody else may
	// write to it.
	CacheDir string

	// Logger gets one record for a device whose CacheDir cannot be written or is not read.
	// Nil: none.
	Logger *slog.Logger

	// Blocking makes every launch, of a kernel or a graph, wait for its end, so that a
	// fault is an error of the launch that caused it.
	Blocking bool
}

// Open opens GPU n, counted from 0, of the first platform that has any, or of the Platform
// and Library in options. At most one value of options may be given. If there is no such
// GPU, the error wraps [ErrNoDevice] and says how many there are.
//
// The program must import
//
//	_ "github.com/drafthead/drafthead/hip/gpu"
//
// Without it Open returns an error that says so and does not wrap ErrNoDevice.
//
// A GPU runs kernels that have a source. It compiles each at its first launch, or before by
// [Compile], and keeps them on disk. All its work lies in one stream. It can [Import]
// memory, and a [Replayer] makes graphs of its launches. Its method
// Time(work func() error) (time.Duration, error) returns how long the GPU, by its own
// clock, takes for what work queues.
//
// Bytes go to the GPU by way of pinned memory, of which a device takes up to 50 MiB for
// writes and 12 MiB for reads, as they need it, and keeps it until Close. Large writes fill
// it with up to twelve goroutines. Where the driver pins no more, ordinary memory takes its
// place, from which copies take longer.
//
// A kernel that faults on the GPU leaves it in an undefined state: from then on every call
// but Free and Close returns the fault, which wraps [ErrFault]. It names the kernel if only
// one can have caused it, and otherwise says how many can. AMD's driver may instead end the
// process. Arguments are checked before a launch where that is possible; for the rest use
// [Check].
//
// Calls leave the current device of the calling thread as it was.
//
// AMD GPUs need ROCm 5.2 or later; NVIDIA GPUs need a driver of CUDA 11.4 or later and its
// run-time compiler. Both are looked for at run time; the build needs neither. Linux on
// amd64 is tested. Linux on arm64 and Windows load the same functions, which has not been
// run. Other systems have no GPU.
func Open(n int, options ...OpenOptions) (Device, error) {
	o, ok := registry.Opener().(opener)
	if !ok {
		return nil, errNoOpener
	}
	var opts OpenOptions
	if len(options) > 0 {
		opts = options[0]
	}
	return o.Open(n, opts)
}

// opener is what package hip/gpu registers.
type opener interface {
	Open(n int, opts OpenOptions) (Device, error)
}

var errNoOpener = fail.With(errors.New(`import _ "github.com/drafthead/drafthead/hip/gpu"`), "the program has no GPUs")
