//go:build linux && (amd64 || arm64)

package emulator

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/gpu"
)

// instructions has operands that a GPU would make anything of.
type instructionsArgs struct {
	Y     hip.Ptr // [32] float32
	Wrong int64
}

var instructions = hip.NewKernel("test_instructions", `
struct Instructions { float *y; int64 wrong; };
KERNEL(32) void test_instructions(Instructions a) {
#if defined(__GFX11__)
  float d[Piece::values] = {};
  Piece same = {}, one = {};
  if (a.wrong && laneIndex() == 21) one.pairs[0][3] = 1;
  multiplyPieces(d, same, one, same);
  a.y[laneIndex()] = d[0];
#elif defined(__GFX10__)
  const int32 lane = (int32)laneIndex();
  const int32 third = __builtin_amdgcn_update_dpp(0, lane, 0x153, 0xf, 0xf, false);
  a.y[lane] = (float)(a.wrong ? __builtin_amdgcn_update_dpp(0, lane, 0x1b, 0xf, 0xf, false) : third);
#endif
}
`, func(*hip.Blocks, *instructionsArgs) {})

func TestEmulatorReportsInstructions(t *testing.T) {
	for _, c := range []struct {
		arch, fault string
		want        func(lane int) float32
	}{
		{"gfx1100", "lanes 16 to 31 of a WMMA do not hold what lanes 0 to 15 hold (line", func(int) float32 { return 0 }},
		{"gfx1030", "a DPP control that is not emulated (line", func(lane int) float32 { return float32(lane/16*16 + 3) }},
	} {
		t.Run(c.arch, func(t *testing.T) {
			m := New(t, Settings{Arch: c.arch, Wave: 32})
			gpus, err := gpu.List(m.Options())
			require.NoError(t, err)
			require.Equal(t, c.arch, gpus[0].Arch)
			for wrong := range int64(2) {
				d, err := hip.Open(0, m.Options())
				require.NoError(t, err)
				y, err := d.Alloc(128)
				require.NoError(t, err)
				require.NoError(t, instructions.Launch(d, hip.Grid{Blocks: 1, Threads: 32}, &instructionsArgs{Y: y, Wrong: wrong}))
				err = d.Sync()
				if wrong == 1 {
					require.ErrorContains(t, err, c.fault)
				} else {
					require.NoError(t, err)
					got := make([]float32, 32)
					require.NoError(t, hip.ReadOf(d, got, y))
					for lane, value := range got {
						require.Equal(t, c.want(lane), value, "lane %d", lane)
					}
				}
				require.NoError(t, d.Close())
			}
		})
	}
}
