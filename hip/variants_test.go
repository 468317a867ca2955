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

// addFrom is a row's bound, and the number that its kernel adds.
type addFrom struct{ from, adds int }

func (a addFrom) String() string { return fmt.Sprintf("%d on", a.from) }

const addThreads = 32

var add = hip.NewVariants(hip.Define("addThreads", addThreads)+`
struct addArgs { int32 *Y; int64 N; };
template <int32 n> DEVICE void add(const addArgs &a) {
  const int32 i = (int32)blockIdx.x * addThreads + (int32)threadIdx.x;
  if (i < a.N) a.Y[i] += n;
}
`, addTwin, func(*addFrom) hip.Func[addArgs] { return nil },
	hip.Variant[addFrom]{Name: "test_add", Template: "add<1>", Threads: addThreads, Serves: addFrom{1, 1}},
	hip.Variant[addFrom]{Name: "test_add_many", Template: "add<7>", Threads: addThreads, Resident: 2, Serves: addFrom{40, 7}},
	hip.Variant[addFrom]{Name: "test_add_most", Template: "add<9>", Threads: addThreads, Serves: addFrom{70, 9}},
)

func addTwin(of *addFrom) hip.Func[addArgs] {
	return func(b *hip.Blocks, a *addArgs) {
		y := hip.Out[int32](b, a.Y, int(a.N))
		for i := b.First * addThreads; i < min(b.End*addThreads, len(y)); i++ {
			y[i] += int32(of.adds)
		}
	}
}

// TestVariants: the last row whose terms hold is taken, the first where none do, and it
// runs the instance that its row names.
func TestVariants(t *testing.T) {
	for _, c := range []struct {
		n      int
		kernel string
		adds   int
	}{{0, "test_add", 1}, {1, "test_add", 1}, {39, "test_add", 1}, {40, "test_add_many", 7}, {69, "test_add_many", 7}, {70, "test_add_most", 9}, {999, "test_add_most", 9}} {
		k, serves := add.For(func(a *addFrom) bool { return c.n >= a.from })
		require.Equal(t, c.kernel, k.Name, "%d", c.n)
		require.Equal(t, c.adds, serves.adds)
		require.Equal(t, serves.String(), k.Serves)
		require.Equal(t, addThreads, k.Threads)
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		const n = 2*addThreads + 1
		y, err := hip.Upload(checked, make([]int32, n))
		require.NoError(t, err)
		for _, of := range []int{1, 40, 70} {
			k, _ := add.For(func(a *addFrom) bool { return of >= a.from })
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
