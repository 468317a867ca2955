package hiptest

import (
	_ "embed"

	"github.com/drafthead/drafthead/hip"
)

//go:embed hiptest_polynomial.hip
var polynomialHIP string

// polynomial is the suite's own kernel: y = x² + k.
var polynomial = hip.NewKernel("hiptest_polynomial",
	hip.Define("polynomialTile", polynomialTile)+polynomialHIP, polynomialTwin).Block(polynomialTile)

type polynomialArgs struct {
	X, Y hip.Ptr // [N] float32
	N    int32
	K    float32
}

// polynomialTile is the values that one block computes.
const polynomialTile = 64

func polynomialTwin(b *hip.Blocks, a *polynomialArgs) {
	first := b.First * polynomialTile
	n := min(b.End*polynomialTile, int(a.N)) - first
	x := hip.In[float32](b, a.X.Add(int64(first)*4), n)
	y := hip.Out[float32](b, a.Y.Add(int64(first)*4), n)
	for i := range y {
		y[i] = x[i]*x[i] + a.K
	}
}
