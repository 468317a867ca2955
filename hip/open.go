package hip

import (
	"errors"
	"log/slog"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/registry"
)

// OpenOptions say how a GPU is opened. The zero value is what [Open] uses without.
type OpenOptions struct {
	// Platform is "hip" (AMD) or "cuda" (NVIDIA). Empty: the first of them that has
	// a GPU.
	Platform string

	// Library and Compiler are the files, or the folders, of the driver library
	// (libamdhip64, libcuda) and the run-time compiler (libhiprtc, libnvrtc). Empty:
	// where the system's loader looks, then where ROCm and CUDA install them. A
	// compiler within a Python installation has to be named here.
	Library, Compiler string

	// Stream is an engine's own hipStream_t or CUstream on the GPU, which everything
	// is then queued on; it must live as long as the device. 0: a stream of its own.
	Stream uintptr

	// CacheDir is where compiled kernels are kept. Empty: drafthead/kernels in the
	// user's cache folder. [os.DevNull]: nowhere. Where there is no folder, or it cannot
	// be written, every process compiles the kernels anew, which takes seconds and is no
	// error. The same goes for a folder that is not the user's or the administrator's, or
	// that others may write to or replace, and for such entries of it: they are not read,
	// since their code would run.
	CacheDir string

	// Logger is told, once for a device, that the folder of CacheDir cannot be written or
	// is not read. Nil: nobody.
	Logger *slog.Logger

	// Blocking waits for the end of every launch, of a kernel or a graph, so that a
	// fault is an error of the launch that caused it.
	Blocking bool
}

// Open opens GPU n, counted from 0, of the first platform that has any, or of the Platform
// and Library of options, which are none, or one. Without such a GPU, the error wraps
// [ErrNoDevice] and says how many there are.
//
// GPUs are part of a program that imports
//
//	_ "github.com/drafthead/drafthead/hip/gpu"
//
// In any other, Open is an error that says so, and does not wrap ErrNoDevice.
//
// A GPU runs kernels that have a source; it compiles them for itself at their first
// launch, or before by [Compile], and keeps them on disk. All
// its work lies in one stream. It is an [Importer], [Filler] and [Sharer], a [Replayer] makes
// graphs of its launches, and a method Time(work func() error) (time.Duration, error) returns how long the GPU, by its own
// clock, takes for what work queues.
//
// A kernel that faults on the GPU leaves it in an undefined state: from then on
// every call but Free and Close returns the fault, which wraps [ErrFault]. It names the
// kernel where one alone may have caused it, else how many may have. AMD's driver may
// instead end the process. What can be checked before a launch is: see [Check] for the
// rest.
//
// Calls leave the calling thread's current device as it was.
//
// AMD GPUs need ROCm 5.2 or later, NVIDIA GPUs a driver of CUDA 11.4 or later and
// its run-time compiler. Both are looked for at run time; nothing of them is needed
// to build. Linux on amd64 is tested; on arm64, and on Windows, the same functions are
// loaded, which has not been run; elsewhere there is no GPU.
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
