package hiptest

import (
	"testing"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

// OnArchitectures runs a test on emulated AMD GPUs whose waves multiply matrices in other
// ways than those of [OnGPUs]: RDNA 3 and 4 have instructions of their own, and RDNA 2 and
// GCN have none, in waves of 32 and 64. Use it for kernels that multiply on matrix units;
// all other differences are the compiler's business. The GPUs have two compute units on
// every machine, so that the same kernels are chosen everywhere.
func OnArchitectures(t *testing.T, test func(t *testing.T, d hip.Device)) {
	t.Helper()
	for _, e := range inRace([]emulator.Settings{
		{Arch: "gfx906", Wave: 64}, {Arch: "gfx1030", Wave: 32}, {Arch: "gfx1100", Wave: 32}, {Arch: "gfx1200", Wave: 32},
	}) {
		e.Workers = 2
		t.Run(e.String(), func(t *testing.T) { test(t, emulator.Open(t, e)) })
	}
}
