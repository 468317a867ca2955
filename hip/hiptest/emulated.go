package hiptest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
	"github.com/drafthead/drafthead/hip/internal/need"
)

// OnGPUs runs a test on an emulated GPU of every kind, and on the first real GPU. Without
// one that part is skipped, or fails if DRAFTHEAD_REQUIRE_GPU is 1.
//
// If architectures of AMD are given, it runs the test on emulations of those instead. Use
// them for kernels that multiply on matrix units, which differ: "gfx1100" and "gfx1200"
// (RDNA 3 and 4) and "gfx950" (CDNA 4) have instructions of their own; "gfx1030" (RDNA 2) and "gfx906" (GCN, in
// waves of 64) have none. All other differences are left to the compiler. These GPUs have
// two compute units on every machine, so that the same kernels are chosen everywhere.
func OnGPUs(t *testing.T, test func(t *testing.T, d hip.Device), architectures ...string) {
	t.Helper()
	if len(architectures) > 0 {
		onArchitectures(t, test, architectures)
		return
	}
	for _, e := range inRace(emulator.Kinds()) {
		t.Run(e.String(), func(t *testing.T) { test(t, emulator.Open(t, e)) })
	}
	t.Run("GPU", func(t *testing.T) { test(t, need.GPU(t)) })
}

func onArchitectures(t *testing.T, test func(t *testing.T, d hip.Device), names []string) {
	var emulations []emulator.Settings
	for _, name := range names {
		e := emulator.Settings{Arch: name, Wave: 32, Workers: 2}
		if strings.HasPrefix(name, "gfx9") {
			e.Wave = 64
		}
		emulations = append(emulations, e)
	}
	for _, e := range inRace(emulations) {
		t.Run(e.String(), func(t *testing.T) { test(t, emulator.Open(t, e)) })
	}
}

// OnEmulations runs a test on every kind of GPU that can be emulated, each with its threads
// in every order, several at a time. Use it for what must be true of a whole program in
// every order of threads. i counts the GPUs from 0, and n is their number.
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

// inRace keeps one emulation for the race detector: it does not see into kernels, and the
// Go code around them is the same for all. Tests of the driver use more.
func inRace(emulations []emulator.Settings) []emulator.Settings {
	if RaceDetector {
		return emulations[len(emulations)-1:]
	}
	return emulations
}

// NewEmulator returns an emulated driver: a runtime that runs kernels on the CPU. It
// reports barriers and wave operations that threads do not reach together, accesses outside
// of allocations, and leaks. The test fails if its devices have leaked anything at the end.
//
// kind is "hip" (waves of 64 threads), "hip 32" or "cuda" (waves of 32). A further word,
// "reverse" or "random", sets the order of the threads of a block and of the blocks; a
// kernel that depends on it has a race. The driver has two GPUs, with memory bytes each; 0:
// 8 GB.
//
// Its methods are
//
//	Options() hip.OpenOptions // that open its GPUs
//	FailAt(n int) (calls int) // see below
//	Left() string             // what was taken and not freed, "" for nothing
//
// FailAt makes the n-th call of the driver from now fail with error 304, counted from 1; 0
// lets all succeed. Calls that free something do not count. It returns how many calls were
// made since the last FailAt.
//
// The system's C++ compiler (c++, g++ or clang++) builds the emulator once for all tests;
// without one the test is skipped, or fails if DRAFTHEAD_REQUIRE_COMPILER is 1. It does not
// see data races that its order of threads hides, and it rounds as the CPU does.
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

// driver has the methods that NewEmulator describes.
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

// TwoGPUs opens the first two real GPUs for a test, which is skipped without them.
func TwoGPUs(t testing.TB) []hip.Device {
	t.Helper()
	return need.TwoGPUs(t)
}
