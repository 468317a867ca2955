package hiptest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/gpu" // for Open
)

// GPU opens the first GPU for a test. Where there is none, [Absent] ends the test. The
// device is closed at the end of the test.
func GPU(t testing.TB) hip.Device {
	t.Helper()
	d, err := hip.Open(0)
	if errors.Is(err, hip.ErrNoDevice) {
		Absent(t, "GPU", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// OnGPUs runs a test on an emulated GPU of every kind, and on the first GPU there is.
func OnGPUs(t *testing.T, test func(t *testing.T, d hip.Device)) {
	t.Helper()
	for _, e := range inRace(kinds) {
		t.Run(e.String(), func(t *testing.T) { test(t, Emulated(t, e)) })
	}
	t.Run("GPU", func(t *testing.T) { test(t, GPU(t)) })
}

// OnEmulations runs a test on each of [Emulations], several at a time: for what has to
// hold of whole programs, in whatever order threads run.
func OnEmulations(t *testing.T, test func(t *testing.T, i int, d hip.Device)) {
	t.Helper()
	for i, e := range inRace(Emulations()) {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			test(t, i, Emulated(t, e))
		})
	}
}

// kinds are the GPUs that kernels are compiled for in different ways.
var kinds = []Emulation{{Platform: "hip", Wave: 64}, {Platform: "hip", Wave: 32}, {Platform: "cuda", Wave: 32}}

// Emulations returns all that a GPU can be emulated as, each kind with its threads in
// every order. It always has the same order itself.
func Emulations() []Emulation {
	var all []Emulation
	for _, e := range kinds {
		for _, e.Order = range []Order{Forward, Reverse, Random} {
			all = append(all, e)
		}
	}
	return all
}

// inRace leaves one emulation for the race detector: kernels are not Go's, and what is
// around them is the same for all. The driver itself is tested with more.
func inRace(emulations []Emulation) []Emulation {
	if RaceDetector {
		return emulations[len(emulations)-1:]
	}
	return emulations
}

// Order is the one in which the emulator runs the threads of a block, and the blocks
// of a grid. A kernel that depends on it has a race.
type Order int

const (
	Forward Order = iota
	Reverse
	Random
)

func (o Order) String() string { return [...]string{"forward", "reverse", "random"}[o] }

// Emulation says what an emulator pretends to be. The zero value is one AMD GPU with
// waves of 64 threads and 8 GB.
type Emulation struct {
	Platform string // "hip", the default, or "cuda"
	Wave     int    // 32 or 64, the default
	Arch     string // of an AMD GPU, such as "gfx1100", whose instructions it has; "": MFMA or, with waves of 32, NVIDIA's mma
	Order    Order
	Devices  int   // 0: one; negative: none
	Memory   int64 // bytes of each device; 0: 8 GB
	Workers  int   // threads that run blocks; 0: one a core
	Version  int   // as hipRuntimeGetVersion counts; 0: ROCm 6.4
	NoPools  bool  // memory cannot be allocated in the order of a stream
	Eager    bool  // work runs when it is queued, not when it is waited for
}

func (e Emulation) String() string {
	e.fill()
	gpu := e.Platform
	if e.Arch != "" {
		gpu = e.Arch
	}
	return fmt.Sprintf("emulated %s, waves of %d, %s", gpu, e.Wave, e.Order)
}

func (e *Emulation) fill() {
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
	if e.Version == 0 {
		e.Version = 60_400_000
	}
}

// Emulated returns an emulated GPU: a device of [hip.Open] over a runtime that runs
// kernels on the CPU and reports barriers and wave operations that threads do not
// reach together, accesses outside of allocations, and what is left behind. It is
// closed at the end of the test, which fails if the driver is then left with
// anything. It is built by the system's C++ compiler, once for all tests; without one
// [Absent] ends the test.
//
// It does not see data races that its order of threads hides, and floating point is
// the CPU's.
func Emulated(t testing.TB, e Emulation) hip.Device {
	t.Helper()
	d, err := hip.Open(0, NewEmulator(t, e).Options())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// Counts is what a driver has given out and not got back.
type Counts struct {
	Allocations, Pinned, Streams, Events, Modules, Graphs, Programs, Contexts int64
}
