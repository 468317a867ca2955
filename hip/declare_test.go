package hip_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

type addArgs struct {
	Y hip.Ptr // [N] int32
	N int64
}

// addKernel adds a number, from a bound on.
type addKernel struct {
	*hip.KernelOf[addArgs]
	from, adds int
}

const addThreads = 32

const addSource = `
struct addArgs { int32 *Y; int64 N; };
template <int32 n> DEVICE void add(const addArgs &a) {
  const int32 i = (int32)blockIdx.x * addThreads + (int32)threadIdx.x;
  if (i < a.N) a.Y[i] += n;
}
`

var adds = []addKernel{
	addOf("test_add", 1, 1, 0),
	addOf("test_add_many", 40, 7, 2),
	addOf("test_add_most", 70, 9, 0),
}

func addOf(name string, from, adds, resident int) addKernel {
	twin := func(b *hip.Blocks, a *addArgs) {
		y := hip.Out[int32](b, a.Y, int(a.N))
		for i := b.First * addThreads; i < min(b.End*addThreads, len(y)); i++ {
			y[i] += int32(adds)
		}
	}
	k := hip.NewKernel(name, hip.Define("addThreads", addThreads)+addSource, twin).
		Instance(fmt.Sprintf("add<%d>", adds), addThreads, resident, fmt.Sprintf("%d on", from))
	return addKernel{k, from, adds}
}

// TestChoose: the last entry that serves is taken, or the first if none serves, and it runs
// the instance that it names.
func TestChoose(t *testing.T) {
	for _, c := range []struct {
		n      int
		kernel string
		adds   int
	}{{0, "test_add", 1}, {1, "test_add", 1}, {39, "test_add", 1}, {40, "test_add_many", 7}, {69, "test_add_many", 7}, {70, "test_add_most", 9}, {999, "test_add_most", 9}} {
		k := hip.Choose(adds, func(a *addKernel) bool { return c.n >= a.from })
		require.Equal(t, c.kernel, k.Name, "%d", c.n)
		require.Equal(t, c.adds, k.adds)
		threads, maxError, serves := k.Declared()
		require.Equal(t, addThreads, threads)
		require.Equal(t, 1e-5, maxError)
		require.Equal(t, fmt.Sprintf("%d on", k.from), serves)
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		const n = 2*addThreads + 1
		y, err := hip.Upload(checked, make([]int32, n))
		require.NoError(t, err)
		for _, of := range []int{1, 40, 70} {
			k := hip.Choose(adds, func(a *addKernel) bool { return of >= a.from })
			require.NoError(t, k.Launch(checked, hip.Grid{Blocks: 3}, &addArgs{Y: y, N: n}))
		}
		got := make([]int32, n)
		require.NoError(t, hip.ReadOf(checked, got, y))
		for _, v := range got {
			require.EqualValues(t, 1+7+9, v)
		}
		require.NoError(t, checked.Free(y))
	})
}
