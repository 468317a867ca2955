// Package emulator runs kernels on the CPU as a GPU's driver would: a library with the
// functions of HIP and of CUDA's driver, and their run-time compilers, made of the sources in
// runtime by the system's C++ compiler. It reports what a GPU hides or hangs on: barriers
// and wave operations that threads do not reach together, accesses outside of allocations,
// leaks.
//
// It does not see data races that its order of threads hides, and floating point is the
// CPU's.
package emulator

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/gpu" // for Open
)

// Order is the one in which the emulator runs the threads of a block, and the blocks
// of a grid. A kernel that depends on it has a race.
type Order int

const (
	Forward Order = iota
	Reverse
	Random
)

func (o Order) String() string { return [...]string{"forward", "reverse", "random"}[o] }

// Settings say what an emulator pretends to be. The zero value is one AMD GPU with
// waves of 64 threads and 8 GB.
type Settings struct {
	Platform string // "hip", the default, or "cuda"
	Wave     int    // 32 or 64, the default
	Arch     string // of an AMD GPU, such as "gfx1100", whose instructions it has; "": MFMA or, with waves of 32, NVIDIA's mma
	Order    Order
	Devices  int   // 0: one; negative: none
	Memory   int64 // bytes of each device; 0: 8 GB
	Workers  int   // threads that run blocks; 0: one a core
	Version  int   // as hipRuntimeGetVersion counts; 0: ROCm 6.4
	Groups   int   // as ncclGetVersion counts; 0: 2.28
	Pinned   int   // pieces of pinned memory at a time; 0: any number; negative: none
	NoPools  bool  // memory cannot be allocated in the order of a stream
	Eager    bool  // work runs when it is queued, not when it is waited for
}

func (e Settings) String() string {
	e.fill()
	gpu := e.Platform
	if e.Arch != "" {
		gpu = e.Arch
	}
	return fmt.Sprintf("emulated %s, waves of %d, %s", gpu, e.Wave, e.Order)
}

func (e *Settings) fill() {
	if e.Platform == "" {
		e.Platform = "hip"
	}
	if e.Wave == 0 {
		e.Wave = 64
	}
	if e.Devices == 0 {
		e.Devices = 1
	}
	if e.Memory == 0 {
		e.Memory = 8 << 30
	}
	if e.Groups == 0 {
		e.Groups = 22_800
	}
	if e.Version == 0 {
		e.Version = 60_400_000
	}
}

// Kinds are the GPUs that kernels are compiled for in different ways.
func Kinds() []Settings {
	return []Settings{{Platform: "hip", Wave: 64}, {Platform: "hip", Wave: 32}, {Platform: "cuda", Wave: 32}}
}

// All returns each kind with its threads in every order. The list is the same in every
// call.
func All() []Settings {
	var all []Settings
	for _, e := range Kinds() {
		for _, e.Order = range []Order{Forward, Reverse, Random} {
			all = append(all, e)
		}
	}
	return all
}

// Open returns a GPU of a new emulator. It is closed at the end of the test, which fails if
// the GPU has not given back everything by then.
func Open(t testing.TB, e Settings) hip.Device {
	t.Helper()
	d, err := hip.Open(0, New(t, e).Options())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// Counts is what a driver has given out and not got back.
type Counts struct {
	Allocations, Pinned, Streams, Events, Modules, Graphs, Programs, Contexts, Communicators int64
}
