package hip_test

import (
	"fmt"
	"log"

	"github.com/drafthead/drafthead/hip"
)

type exampleArgs struct {
	X, Y hip.Ptr // [N] float32
	N    int32
	K    float32
}

const exampleThreads = 256

const exampleHIP = `
struct Example { const float *x; float *y; int32 n; float k; };
KERNEL(threads) void test_example(Example a) {
  const int32 i = (int32)(blockIdx.x * threads + threadIdx.x);
  if (i < a.n) a.y[i] = a.k * a.x[i];
}
`

// exampleKernel computes y = k·x. Each block does exampleThreads values.
var exampleKernel = hip.NewKernel("test_example", hip.Define("threads", exampleThreads)+exampleHIP, exampleTwin).Block(exampleThreads)

func exampleTwin(b *hip.Blocks, a *exampleArgs) {
	x := hip.In[float32](b, a.X, int(a.N))
	y := hip.Out[float32](b, a.Y, int(a.N))
	for i := b.First * exampleThreads; i < min(b.End*exampleThreads, len(x)); i++ {
		y[i] = a.K * x[i]
	}
}

// One kernel on the CPU, with every launch compared with the reference.
func Example() {
	d := hip.Check(hip.NewHost())
	defer d.Close()

	x, err := hip.Upload(d, []float32{1, 2, 3})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Free(x)
	y, err := d.Alloc(12)
	if err != nil {
		log.Fatal(err)
	}
	defer d.Free(y)

	grid := hip.Grid{Blocks: (3 + exampleThreads - 1) / exampleThreads}
	if err := exampleKernel.Launch(d, grid, &exampleArgs{X: x, Y: y, N: 3, K: 2}); err != nil {
		log.Fatal(err)
	}
	result := make([]float32, 3)
	if err := hip.ReadOf(d, result, y); err != nil { // waits for the launch
		log.Fatal(err)
	}
	fmt.Println(result)
	// Output: [2 4 6]
}
