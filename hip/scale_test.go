package hip_test

import (
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// scale computes y = k·y, a thread for each value.
type scaleArgs struct {
	Y hip.Ptr // [N] float32
	N int32
	K float32
}

const scaleHIP = `
struct Scale { float *y; int32 n; float k; };
KERNEL(64) void test_scale(Scale a) {
  const int32 i = (int32)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < a.n) a.y[i] *= a.k;
}
`

var scale = hip.NewKernel("test_scale", scaleHIP, func(b *hip.Blocks, a *scaleArgs) {
	first := b.First * 64
	y := hip.Out[float32](b, a.Y.Add(int64(first)*4), min(b.End*64, int(a.N))-first)
	for i := range y {
		y[i] *= a.K
	}
})

func scaleOn(d hip.Device, y hip.Ptr, n int, k float32) error {
	return scale.Launch(d, hip.Grid{Blocks: (n + 63) / 64, Threads: 64}, &scaleArgs{Y: y, N: int32(n), K: k})
}

func values(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i%251) + 1
	}
	return v
}

// expect reads n values at p, which must be k times values(n).
func expect(d hip.Device, p hip.Ptr, n int, k float32) error {
	got := make([]float32, n)
	if err := hip.ReadOf(d, got, p); err != nil {
		return err
	}
	for i, v := range values(n) {
		if got[i] != v*k {
			return fmt.Errorf("value %d is %v, want %v", i, got[i], v*k)
		}
	}
	return nil
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func scaled(n int, k float32) []float32 {
	v := values(n)
	for i := range v {
		v[i] *= k
	}
	return v
}
