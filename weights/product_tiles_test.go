package weights

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// The assembly that multiplies in tiles needs AMX. What is around it, which splits x, packs
// tiles and adds up the parts, runs on any machine with vectors as wide: here with tiles
// that are multiplied in Go.

type softTilesArgs struct {
	X, Y     hip.Ptr // [Rows, In], [Rows, Out] float32
	Weights  hip.Ptr // [Segments] Segment
	Segments int32
	Rows     int32
	Out, In  int32
}

var softTilesProduct = hip.NewKernel("test_soft_tiles", "", func(b *hip.Blocks, a *softTilesArgs) {
	w := OpenRows(b, a.Weights, int(a.Segments), int(a.In), false)
	w.level = softTiles(w.level)
	w.Load(hip.In[float32](b, a.X, int(a.Rows*a.In)), int(a.Rows))
	w.Multiply(hip.Out[float32](b, a.Y, int(a.Rows*a.Out)), int(a.Out), 0, int(a.Out))
})

// softTiles returns the level with tiles.
func softTiles(level *vectorLevel) *vectorLevel {
	l := *level
	for _, f := range []Format{BF16, MXFP8} {
		for n := 1; n <= maxStreamTiles; n++ {
			l.streamTiles[f][n] = func(a *streamTilesArgs) { softStreamTiles(f, n, a) }
		}
	}
	return &l
}

// softStreamTiles is what the functions of stream_amd64.go compute.
func softStreamTiles(f Format, tiles int, a *streamTilesArgs) {
	cols := a.blocks * streamColumns
	w := make([]float32, cols)
	sums := unsafe.Slice(a.sums, tileRows*tiles*tileSize)
	for j := range a.rows {
		var scale []byte
		if f.quantized() {
			scale = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(a.scale), j*a.scaleStride)), cols/32)
		}
		f.Decode(w, unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(a.w), j*a.rowStride)), f.rowBytes(cols)), scale)
		for _, v := range w {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				a.special = 1
			}
		}
		for i := range tiles * tileSize {
			tile := unsafe.Slice((*hip.BF16)(unsafe.Add(unsafe.Pointer(a.columns), i/tileSize*a.columnStride)), cols*tileSize)
			sum := float32(0)
			for c, v := range w {
				sum += v * tile[(c/2*tileSize+i%tileSize)*2+c%2].Float32()
			}
			sums[j*tiles*tileSize+i] = sum
		}
	}
}

// TestTilesOfParts: x as three, two and one bfloat16, in rows that fill tiles and turns of
// them, and that do not.
func TestTilesOfParts(t *testing.T) {
	if levels := hip.SIMDLevels(); levels[len(levels)-1] != hip.SIMDAVX512BF16 && levels[len(levels)-1] != hip.SIMDAMX {
		t.Skip("the machine does not multiply bfloat16")
	}
	r := rand.New(rand.NewPCG(7, 9))
	const out, cols = 37, 256
	for _, a := range append([]hip.Activations{hip.ActivationsExact}, rounded...) {
		d, err := hip.OpenHost(hip.HostOptions{Threads: 1, Activations: a})
		require.NoError(t, err)
		for _, f := range []Format{BF16, MXFP8} {
			s := newStored(r, f, out, cols)
			for _, n := range []int{2, 5, 6, 8, 15, 16, 17, 24, 25, 32, 33, 48, 49, 97} {
				mem := &arena{d: d}
				m, x, y := mem.matrix(cols, 0, s), randomFloats(r, n*cols), make([]float32, n*out)
				px, py := mem.floats(x), mem.floats(y)
				require.NoError(t, mem.err)
				table, segments := m.Table()
				require.NoError(t, softTilesProduct.Launch(d, hip.Grid{Blocks: 1}, &softTilesArgs{
					X: px, Y: py, Weights: table, Segments: segments, Rows: int32(n), Out: out, In: cols,
				}))
				require.NoError(t, hip.ReadOf(d, y, py))
				require.NoError(t, hiptest.Within(y, naiveProduct(x, s), roundingBound(a)), fmt.Sprintf("%v, %v, %d rows", a, f, n))
				if a == hip.ActivationsBF16 {
					require.Error(t, hiptest.Within(y, naiveProduct(x, s), 1e-5), "%v, %d rows are not rounded", f, n)
				}
				require.NoError(t, mem.free())
			}
		}
		require.NoError(t, d.Close())
	}
}
