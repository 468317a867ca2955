//go:build linux && (amd64 || arm64)

package emulator

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// folds computes each fold of a wave twice: as the prelude has it, and by moves between
// lanes, as GPUs do it.
type foldsArgs struct {
	X, Y hip.Ptr // [64, foldValues] float32; [2, 64, foldResults] float32
}

const foldValues, foldResults = 16, 8

const foldsHIP = `
struct Folds { const float *x; float *y; };
template <class T> static T byMoves(T value, uint32 first, uint32 last) {
  for (uint32 mask = first; mask >= last && mask > 0; mask /= 2) value += swapLanes(value, mask);
  return value;
}
KERNEL(waveSize) void test_folds(Folds a) {
  const uint32 lane = laneIndex();
  const float *x = a.x + 16 * lane;
  float *folded = a.y + 8 * lane, *moved = folded + 8 * 64;
  folded[0] = waveSum(x[0]);
  moved[0] = byMoves(x[0], waveSize / 2, 1);
  folded[1] = (float)waveSum((double)x[1]);
  moved[1] = (float)byMoves((double)x[1], waveSize / 2, 1);
  folded[2] = waveFold<adding, 16, 4>(x[2]);
  moved[2] = byMoves(x[2], 16, 4);
  float each[16], by[16];
  for (int32 i = 0; i < 16; i++) each[i] = by[i] = x[i];
  waveSumEach<16>(each);
  for (int32 n = 16, mask = waveSize / 2; mask > 0; mask /= 2, n = n > 1 ? n / 2 : 1) {
    for (int32 i = 0; i < (n > 1 ? n / 2 : 1); i++) {
      const float low = by[i], high = n > 1 ? by[i + n / 2] : by[i];
      const bool upper = lane & mask;
      by[i] = (upper ? high : low) + swapLanes(upper ? low : high, mask);
    }
  }
  folded[3] = each[0], moved[3] = by[0];
  for (int32 i = 0; i < 16; i++) each[i] = by[i] = x[i];
  waveSumEach<16, 4>(each);
  for (int32 n = 16, mask = 4; mask > 0; mask /= 2, n /= 2) {
    for (int32 i = 0; i < n / 2; i++) {
      const float low = by[i], high = by[i + n / 2];
      const bool upper = lane & mask;
      by[i] = (upper ? high : low) + swapLanes(upper ? low : high, mask);
    }
  }
  folded[4] = each[0], moved[4] = by[0];
  folded[5] = each[1], moved[5] = by[1];
  const int32 value = (int32)(x[3] * 1000);
  int32 sum = value;
  for (uint32 step = 1; step < waveSize; step *= 2) {
    const int32 before = (int32)shuffle((uint32)sum, lane >= step ? lane - step : lane);
    if (lane >= step) sum += before;
  }
  folded[6] = (float)waveScan(value), moved[6] = (float)sum;
  folded[7] = moved[7] = 0;
}
`

var folds = hip.NewKernel("test_folds", foldsHIP, func(*hip.Blocks, *foldsArgs) {})

// TestEmulatorFoldsAsLanesDo: what the emulator does for a wave in one go has the bits
// that lanes arrive at by moves.
func TestEmulatorFoldsAsLanesDo(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	x := make([]float32, 64*foldValues)
	for i := range x {
		x[i] = float32(random.NormFloat64() * math.Exp2(float64(random.IntN(12))))
	}
	for _, e := range All() {
		d := Open(t, e)
		px, err := hip.Upload(d, x)
		require.NoError(t, err)
		py, err := d.Alloc(4 * int64(2*64*foldResults))
		require.NoError(t, err)
		require.NoError(t, folds.Launch(d, hip.Grid{Blocks: 1, Threads: e.Wave}, &foldsArgs{X: px, Y: py}))
		y := make([]float32, 2*64*foldResults)
		require.NoError(t, hip.ReadOf(d, y, py))
		n := e.Wave * foldResults
		require.NotZero(t, y[n-foldResults])
		require.Equal(t, y[64*foldResults:][:n], y[:n], e)
	}
}
