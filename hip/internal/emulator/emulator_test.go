//go:build linux && (amd64 || arm64)

package emulator

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// mistakes makes one of the mistakes that a GPU hides or hangs on.
type mistakesArgs struct {
	Y    hip.Ptr // [mistakeValues] float32
	Mode int64
}

const mistakeValues = 96 // 384 bytes, and 128 bytes more before the emulator faults

const mistakesHIP = `
struct Mistakes { float *y; int64 mode; };
__attribute__((noinline)) void overflow(float *y) {
  volatile float large[40000];
  large[0] = y[0];
  y[1] = large[0];
}
KERNEL(128) void test_mistakes(Mistakes a) {
  const uint32 i = threadIdx.x;
  switch (a.mode) {
    case 0:
      break;
    case 1:
      if (i < 10) __syncthreads();
      else {
        a.y[0] = 1;
        __syncthreads();
      }
      break;
    case 2:
      if (i == 5) return;
      __syncthreads();
      break;
    case 3:
      if (i & 1) a.y[0] = waveSum(1.0f);
      break;
    case 4:
      if (i < 3) a.y[1] = (float)shuffle(1u, 0);
      else a.y[2] = (float)shuffle(2u, 0);
      break;
    case 5:
      a.y[96 + 20] = 1;
      break;
    case 6:
      a.y[-3] = 1;
      break;
    case 7:
      a.y[96 + 32 + 25] = 1;
      break;
    case 8:
      *(volatile float *)12345 = a.y[0];
      break;
    case 9:
      overflow(a.y);
      break;
  }
}
`

var mistakes = hip.NewKernel("test_mistakes", mistakesHIP, func(*hip.Blocks, *mistakesArgs) {})

func TestEmulatorReportsMistakes(t *testing.T) {
	for _, e := range []Settings{{Wave: 64}, {Wave: 32, Order: Reverse}, {Platform: "cuda", Wave: 32, Order: Random}} {
		m := New(t, e)
		for mode, want := range []string{
			"",
			"threads of one block wait at different __syncthreads",
			"returned before __syncthreads",
			"lanes",
			"lanes of one wave are at different wave operations",
			"wrote 80 bytes past the end of an allocation of 384",
			"wrote 12 bytes before an allocation of 384",
			"228 bytes past the end of an allocation of 384",
			"illegal address in thread",
			"the thread's stack overflows",
		} {
			t.Run(fmt.Sprintf("%s, %d", e, mode), func(t *testing.T) {
				d, err := hip.Open(0, m.Options())
				require.NoError(t, err)
				y, err := d.Alloc(4 * int64(mistakeValues))
				require.NoError(t, err)
				require.NoError(t, mistakes.Launch(d, hip.Grid{Blocks: 3, Threads: 128}, &mistakesArgs{Y: y, Mode: int64(mode)}))
				err = d.Sync()
				if want == "" {
					require.NoError(t, err)
				} else {
					require.ErrorContains(t, err, want)
					require.ErrorIs(t, err, hip.ErrFault)
					require.ErrorContains(t, err, "kernel "+mistakes.Name+": ")
				}
				require.NoError(t, d.Close())
				require.Zero(t, m.Counts(), "after any fault")
			})
		}
	}
}

// order records the order in which threads pass: each takes the next number.
type orderArgs struct {
	Y hip.Ptr // [65] int32: the counter, then the number of each thread
}

var order = hip.NewKernel("test_order", `
struct Order { int32 *y; };
KERNEL(64) void test_order(Order a) { a.y[1 + threadIdx.x] = a.y[0]++; }
`, func(*hip.Blocks, *orderArgs) {})

func TestEmulatorRunsThreadsInTheOrderAskedFor(t *testing.T) {
	const n = 64
	for _, o := range []Order{Forward, Reverse, Random} {
		d := Open(t, Settings{Order: o})
		y, err := d.Alloc(4 * int64(n+1))
		require.NoError(t, err)
		require.NoError(t, order.Launch(d, hip.Grid{Blocks: 1, Threads: n}, &orderArgs{Y: y}))
		got := make([]int32, n+1)
		require.NoError(t, hip.ReadOf(d, got, y))
		forward, reverse, seen := 0, 0, map[int32]bool{}
		for i, turn := range got[1:] {
			seen[turn] = true
			if int(turn) == i {
				forward++
			}
			if int(turn) == n-1-i {
				reverse++
			}
		}
		require.Len(t, seen, n, "each ran once")
		require.Equal(t, o == Forward, forward == n, o)
		require.Equal(t, o == Reverse, reverse == n, o)
	}
}

// unwritten copies shared memory that nobody wrote.
type unwrittenArgs struct {
	Y hip.Ptr // [Blocks] float32
}

var unwritten = hip.NewKernel("test_unwritten", `
struct Unwritten { float *y; };
KERNEL(1) void test_unwritten(Unwritten a) {
  __shared__ float value[100];
  a.y[blockIdx.x] = value[50];
  value[50] = 1;
}
`, func(*hip.Blocks, *unwrittenArgs) {})

func TestEmulatorSharedMemoryStartsAsNaN(t *testing.T) {
	d := Open(t, Settings{Workers: 1})
	y, err := d.Alloc(16)
	require.NoError(t, err)
	require.NoError(t, unwritten.Launch(d, hip.Grid{Blocks: 4, Threads: 1}, &unwrittenArgs{Y: y}))
	got := make([]float32, 4)
	require.NoError(t, hip.ReadOf(d, got, y))
	for i, v := range got {
		require.True(t, v != v, "block %d read %v", i, v)
	}
}

// A fault of Go code is Go's, also when emulators have their handlers in front.
func TestEmulatorLeavesGoFaultsAlone(t *testing.T) {
	for range 3 {
		d := Open(t, Settings{})
		y, err := d.Alloc(260)
		require.NoError(t, err)
		require.NoError(t, order.Launch(d, hip.Grid{Blocks: 1, Threads: 64}, &orderArgs{Y: y}))
		require.NoError(t, d.Sync())
	}
	var nowhere *int
	require.Panics(t, func() { *nowhere = 1 })
}

func TestEmulatorFailAtCounts(t *testing.T) {
	m := New(t, Settings{})
	m.FailAt(0)
	d, err := hip.Open(0, m.Options())
	require.NoError(t, err)
	require.Greater(t, m.FailAt(1), 5)
	_, err = d.Alloc(64)
	require.ErrorContains(t, err, "failure asked for")
	_, err = d.Alloc(64)
	require.NoError(t, err, "once")
	require.NoError(t, d.Close())
}

func TestEmulatorIsBuiltOnce(t *testing.T) {
	m := New(t, Settings{})
	compiler, err := cxx()
	require.NoError(t, err)
	dir, err := buildEmulator(compiler)
	require.NoError(t, err)
	require.Equal(t, filepath.Dir(m.Options().CacheDir), dir)
	before, err := os.Stat(filepath.Join(dir, emulatorLibrary))
	require.NoError(t, err)
	again, err := buildEmulator(compiler)
	require.NoError(t, err)
	require.Equal(t, dir, again)
	after, err := os.Stat(filepath.Join(dir, emulatorLibrary))
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
}
