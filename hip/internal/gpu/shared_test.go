package gpu_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/emulator"
)

type reverseArgs struct {
	Y hip.Ptr // [64] float32
}

// reversing declares a kernel that reverses 64 values by way of the last of so many bytes of
// shared memory.
func reversing(name string, bytes int) *hip.KernelOf[reverseArgs] {
	return hip.NewKernel(name, fmt.Sprintf(`
struct reverseArgs { float *Y; };
KERNEL(64) void %s(reverseArgs a) {
#if DH_WAVE == 32
  TILES(room, %[2]d);
  float *const values = (float *)(room + %[2]d) - 64;
  values[threadIdx.x] = a.Y[threadIdx.x];
  __syncthreads();
  a.Y[threadIdx.x] = values[63 - threadIdx.x];
#endif
}
`, name, bytes), func(b *hip.Blocks, a *reverseArgs) {
		y := hip.Out[float32](b, a.Y, 64)
		for i := range 32 {
			y[i], y[63-i] = y[63-i], y[i]
		}
	}).Block(64).Shared(bytes)
}

var (
	reverse   = reversing("test_reverse", 100<<10)
	tooShared = reversing("test_too_shared", 300<<10)
)

// TestShared: a block has the shared memory that its kernel asks for. A kernel that asks for
// more than there is compiles, as a head compiles all kernels, and cannot be launched.
func TestShared(t *testing.T) {
	for _, e := range emulator.All() {
		t.Run(e.String(), func(t *testing.T) {
			d := emulator.Open(t, e)
			cuda := d.Info().Kind == "cuda"
			require.Equal(t, cuda, d.Info().Warpgroups)
			require.Zero(t, testing.AllocsPerRun(10, func() { d.Info() }), "every launch asks for it")
			require.NoError(t, hip.Compile(context.Background(), d, &reverse.Kernel, &tooShared.Kernel))
			y := values(64)
			p, err := hip.Upload(d, y)
			require.NoError(t, err)
			args := reverseArgs{Y: p}
			require.ErrorContains(t, tooShared.Launch(d, hip.Grid{Blocks: 1}, &args), "kernel test_too_shared: ")
			if !cuda {
				return
			}
			require.NoError(t, reverse.Launch(d, hip.Grid{Blocks: 1}, &args))
			got := make([]float32, 64)
			require.NoError(t, hip.ReadOf(d, got, p))
			for i := range got {
				require.Equal(t, y[63-i], got[i])
			}
		})
	}
}
