package weights

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/nlpodyssey/spago/mat"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// BenchmarkPeers multiplies the same float32 weights, read from memory, with the
// libraries that a Go program would otherwise take. A peer that computes something
// else is not timed.
func BenchmarkPeers(b *testing.B) {
	r := rand.New(rand.NewPCG(9, 1))
	copies := make([][]float32, coldBytes/(4*benchOut*benchIn)+1)
	for i := range copies {
		copies[i] = make([]float32, benchOut*benchIn)
		for k := range copies[i] {
			copies[i][k] = float32(k*(i+7)%17-8) / 8
		}
	}
	for _, rows := range []int{1, 4} {
		x := randomFloats(r, rows*benchIn)
		want := ours(b, copies[:1], x, rows)(0)
		for _, peer := range []struct {
			name    string
			prepare func(b *testing.B, copies [][]float32, x []float32, rows int) func(i int) []float32
		}{{"drafthead", ours}, {"gonum", gonum}, {"spago", spago}} {
			b.Run(fmt.Sprintf("%s/%d", peer.name, rows), func(b *testing.B) {
				multiply := peer.prepare(b, copies, x, rows)
				require.NoError(b, hiptest.Within(multiply(0), want, 1e-4))
				b.SetBytes(4 * benchOut * benchIn)
				i := 0
				for b.Loop() {
					i++
					multiply(i % len(copies))
				}
			})
		}
	}
}

func ours(b *testing.B, copies [][]float32, x []float32, rows int) func(i int) []float32 {
	d := hip.NewHost()
	a := &arena{d: d}
	b.Cleanup(func() { require.NoError(b, d.Close()) })
	var matrices []*Matrix
	for _, w := range copies {
		p, err := hip.Adopt(d, unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 4*len(w)), false)
		require.NoError(b, err)
		matrices = append(matrices, a.matrixOf(benchIn, DenseSegment(F32, benchOut, benchIn, p, 0)))
	}
	y := make([]float32, rows*benchOut)
	px, py := a.floats(x), a.floats(y)
	require.NoError(b, a.err)
	return func(i int) []float32 {
		require.NoError(b, matrices[i].Product(d, py, px, rows))
		require.NoError(b, hip.ReadOf(d, y, py))
		return y
	}
}

// gonum computes y = x · wᵀ, of one row by its own function.
func gonum(_ *testing.B, copies [][]float32, x []float32, rows int) func(i int) []float32 {
	y := make([]float32, rows*benchOut)
	return func(i int) []float32 {
		w := blas32.General{Rows: benchOut, Cols: benchIn, Stride: benchIn, Data: copies[i]}
		if rows == 1 {
			blas32.Gemv(blas.NoTrans, 1, w, blas32.Vector{N: benchIn, Inc: 1, Data: x}, 0, blas32.Vector{N: benchOut, Inc: 1, Data: y})
			return y
		}
		blas32.Gemm(blas.NoTrans, blas.Trans, 1, blas32.General{Rows: rows, Cols: benchIn, Stride: benchIn, Data: x}, w,
			0, blas32.General{Rows: rows, Cols: benchOut, Stride: benchOut, Data: y})
		return y
	}
}

// spago computes w · xᵀ, which is yᵀ.
func spago(_ *testing.B, copies [][]float32, x []float32, rows int) func(i int) []float32 {
	xt := mat.NewDense[float32](mat.WithShape(rows, benchIn), mat.WithBacking(x)).T()
	w := make([]mat.Matrix, len(copies))
	for i := range w {
		w[i] = mat.NewDense[float32](mat.WithShape(benchOut, benchIn), mat.WithBacking(copies[i]))
	}
	y := make([]float32, rows*benchOut)
	return func(i int) []float32 {
		yt := mat.Data[float32](w[i].Mul(xt))
		for j := range benchOut {
			for row := range rows {
				y[row*benchOut+j] = yt[j*rows+row]
			}
		}
		return y
	}
}
