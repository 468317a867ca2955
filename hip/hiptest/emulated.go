package hiptest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/need"
)

// OnGPUs runs a test on an emulated GPU of every kind, and on the first GPU there is, without
// which that part is skipped, or fails if DRAFTHEAD_REQUIRE_GPU is 1.
func OnGPUs(t *testing.T, test func(t *testing.T, d hip.Device)) {
	t.Helper()
	for _, e := range inRace(emulator.Kinds()) {
		t.Run(e.String(), func(t *testing.T) { test(t, emulator.Open(t, e)) })
	}
	t.Run("GPU", func(t *testing.T) { test(t, need.GPU(t)) })
}

// OnEmulations runs a test on everything that a GPU can be emulated as, each kind with its
// threads in every order, several at a time: for what has to hold of whole programs, in
// whatever order threads run. i counts them from 0, n is how many they are.
func OnEmulations(t *testing.T, test func(t *testing.T, i, n int, d hip.Device)) {
	t.Helper()
	all := emulator.All()
	for i, e := range inRace(all) {
		t.Run(e.String(), func(t *testing.T) {
			t.Parallel()
			test(t, i, len(all), emulator.Open(t, e))
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

// NewEmulator returns an emulated driver that nothing was taken from: a runtime that runs
// kernels on the CPU and reports barriers and wave operations that threads do not reach
// together, accesses outside of allocations, and what is left over. At the end of the test
// everything that devices have taken must be given back.
//
// kind is "hip", with waves of 64 threads or, as "hip 32", of 32, or "cuda", with waves of 32.
// The word "reverse" or "random" after it is the order of the threads of a block, and of its
// blocks; a kernel that depends on it has a race. memory is the bytes of each of its two
// GPUs; 0: 8 GB.
//
// Its methods are
//
//	Options() hip.OpenOptions // that open its GPUs
//	FailAt(n int) (calls int) // see below
//	Left() string             // what it has given out and not got back, "" for nothing
//
// FailAt makes the n-th call of the driver from now fail with error 304, the first being 1; 0
// none. Calls that give something back do not count. It returns how many calls were made
// since the last FailAt.
//
// The emulator is built by the system's C++ compiler, once for all tests; without one the
// test is skipped, or fails if DRAFTHEAD_REQUIRE_COMPILER is 1. It does not see data races
// that its order of threads hides, and floating point is the CPU's.
func NewEmulator(t testing.TB, kind string, memory int64) *driver {
	t.Helper()
	e := emulator.Settings{Devices: 2, Memory: memory}
	for _, word := range strings.Fields(kind) {
		switch word {
		case "hip":
			e.Platform, e.Wave = word, 64
		case "cuda":
			e.Platform, e.Wave = word, 32
		case "32":
			e.Wave = 32
		case "reverse":
			e.Order = emulator.Reverse
		case "random":
			e.Order = emulator.Random
		default:
			t.Fatalf("no GPU is emulated as %q", kind)
		}
	}
	return &driver{emulator.New(t, e)}
}

// driver is what NewEmulator says.
type driver struct {
	emulator *emulator.Emulator
}

func (d *driver) Options() hip.OpenOptions { return d.emulator.Options() }

func (d *driver) FailAt(n int) (calls int) { return d.emulator.FailAt(n) }

func (d *driver) Left() string {
	if c := d.emulator.Counts(); c != (emulator.Counts{}) {
		return fmt.Sprintf("%+v", c)
	}
	return ""
}
