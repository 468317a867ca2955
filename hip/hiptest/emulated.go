package hiptest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/gpu" // for Open
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/need"
)

// GPU opens the first GPU for a test. Where there is none, the test is skipped, or fails if
// DRAFTHEAD_REQUIRE_GPU is 1. The
// device is closed at the end of the test.
func GPU(t testing.TB) hip.Device {
	t.Helper()
	d, err := hip.Open(0)
	if errors.Is(err, hip.ErrNoDevice) {
		need.Absent(t, "GPU", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// OnGPUs runs a test on an emulated GPU of every kind, and on the first GPU there is.
func OnGPUs(t *testing.T, test func(t *testing.T, d hip.Device)) {
	t.Helper()
	for _, e := range inRace(emulator.Kinds()) {
		t.Run(e.String(), func(t *testing.T) { test(t, emulator.Open(t, e)) })
	}
	t.Run("GPU", func(t *testing.T) { test(t, GPU(t)) })
}

// Emulations is how many emulated GPUs [OnEmulations] runs a test on.
const Emulations = 9

// OnEmulations runs a test on everything that a GPU can be emulated as, each kind with its
// threads in every order, several at a time: for what has to hold of whole programs, in
// whatever order threads run. i counts them from 0.
func OnEmulations(t *testing.T, test func(t *testing.T, i int, d hip.Device)) {
	t.Helper()
	all := emulator.All()
	require.Len(t, all, Emulations)
	for i, e := range inRace(all) {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			test(t, i, emulator.Open(t, e))
		})
	}
}

// inRace leaves one emulation for the race detector: kernels are not Go's, and what is
// around them is the same for all. The driver itself is tested with more.
func inRace(emulations []emulator.Settings) []emulator.Settings {
	if RaceDetector {
		return emulations[len(emulations)-1:]
	}
	return emulations
}

// Emulation says what an emulated GPU is. The zero value is one of AMD's with waves of 64
// threads, 8 GB, and threads that run in ascending order.
type Emulation struct {
	Platform string // "hip", the default, or "cuda"
	Wave     int    // 32 or 64, the default
	Order    string // of the threads of a block, and its blocks: "forward", the default, "reverse" or "random". A kernel that depends on it has a race
	Devices  int    // 0: one
	Memory   int64  // bytes of each device; 0: 8 GB
}

func (e Emulation) String() string { return e.settings().String() }

func (e Emulation) settings() emulator.Settings {
	orders := map[string]emulator.Order{"reverse": emulator.Reverse, "random": emulator.Random}
	return emulator.Settings{Platform: e.Platform, Wave: e.Wave, Order: orders[e.Order], Devices: e.Devices, Memory: e.Memory}
}

// Emulated returns an emulated GPU: a device of [hip.Open] over a runtime that runs
// kernels on the CPU and reports barriers and wave operations that threads do not
// reach together, accesses outside of allocations, and what is left over. It is
// closed at the end of the test, which fails if the driver is then left with
// anything. It is built by the system's C++ compiler, once for all tests; without one
// the test is skipped, or fails if DRAFTHEAD_REQUIRE_COMPILER is 1.
//
// It does not see data races that its order of threads hides, and floating point is
// the CPU's.
func Emulated(t testing.TB, e Emulation) hip.Device {
	t.Helper()
	return emulator.Open(t, e.settings())
}

// Emulator is an emulated driver, whose devices [hip.Open] opens.
type Emulator struct {
	driver *emulator.Emulator
}

// NewEmulator returns an emulator that nothing was taken from. At the end of the test
// everything that devices have taken must be given back.
func NewEmulator(t testing.TB, e Emulation) *Emulator {
	t.Helper()
	return &Emulator{emulator.New(t, e.settings())}
}

// Options opens a device of the emulator.
func (m *Emulator) Options() hip.OpenOptions { return m.driver.Options() }

// FailAt makes the n-th call of the driver from now fail with error 304, the first
// being 1; 0 none. Calls that give something back do not count. It returns how many
// calls were made since the last FailAt.
func (m *Emulator) FailAt(n int) (calls int) { return m.driver.FailAt(n) }

// Left says what the driver has given out and not got back, "" for nothing.
func (m *Emulator) Left() string {
	if c := m.driver.Counts(); c != (emulator.Counts{}) {
		return fmt.Sprintf("%+v", c)
	}
	return ""
}
