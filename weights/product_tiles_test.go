package weights

import (
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
	w.load(hip.In[float32](b, a.X, int(a.Rows*a.In)), int(a.Rows))
	w.Multiply(hip.Out[float32](b, a.Y, int(a.Rows*a.Out)), int(a.Out), 0, int(a.Out))
})

// softTiles returns the level with tiles.
func softTiles(level *vectorLevel) *vectorLevel {
	l := *level
	for _, f := range []Format{BF16, MXFP8} {
		for n := 1; n <= maxStreamTiles; n++ {
			l.streamTiles[f][n] = func(a *streamTilesArgs) { softStreamTiles(f, n, a) }
		}
		l.decodeTiles[f] = func(a *decodeTilesArgs) { softDecodeTiles(f, a) }
	}
	for tiles := 1; tiles <= setTiles; tiles++ {
		l.multiplyTiles[tiles] = func(a *multiplyTilesArgs) { softMultiplyTiles(tiles, a) }
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

// softDecodeTiles is what the functions of tile_panels_amd64.go decode.
func softDecodeTiles(f Format, a *decodeTilesArgs) {
	cols := a.blocks * streamColumns
	w := make([]float32, cols)
	panel := unsafe.Slice(a.panel, tileRows*cols)
	for j := range a.rows {
		var scale []byte
		if f.quantized() {
			scale = unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(a.scale), j*a.scaleStride)), cols/32)
		}
		f.Decode(w, unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(a.w), j*a.rowStride)), f.rowBytes(cols)), scale)
		for c, v := range w {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				a.special = 1
			}
			panel[c/tileStep*tileRows*tileStep+j*tileStep+c%tileStep] = uint16(hip.ToBF16(v))
		}
	}
}

// softMultiplyTiles is what the others multiply.
func softMultiplyTiles(tiles int, a *multiplyTilesArgs) {
	const values = tileSize * tileSize
	panels := unsafe.Slice((*hip.BF16)(unsafe.Pointer(a.panel)), a.panels*a.steps*tileRows*tileStep)
	sums := unsafe.Slice(a.sums, a.sets*a.panels*2*tiles*values)
	for set := range a.sets {
		for i := range a.panels * 2 * tiles * values {
			panel, half, tile, j, x := i/(2*tiles*values), i/(tiles*values)%2, i/values%tiles, i/tileSize%tileSize, i%tileSize
			sum := float32(0)
			for p := range a.parts {
				columns := unsafe.Slice((*hip.BF16)(unsafe.Add(unsafe.Pointer(a.columns), set*a.setStride+p*a.partStride)), a.steps*tiles*tileValues)
				for c := range a.steps * tileStep {
					w := panels[(panel*a.steps+c/tileStep)*tileRows*tileStep+(half*tileSize+j)*tileStep+c%tileStep].Float32()
					sum += w * columns[(c/tileStep*tiles+tile)*tileValues+(c%tileStep/2*tileSize+x)*2+c%2].Float32()
				}
			}
			at := &sums[set*a.panels*2*tiles*values+i]
			if a.to == sumsSet {
				*at = 0
			}
			*at += sum
		}
	}
}

// multipliedSoftly is the product in such tiles on a host with one thread.
func multipliedSoftly(t *testing.T, d hip.Device, x []float32, s stored) []float32 {
	t.Helper()
	n := len(x) / s.cols
	mem, y := &arena{d: d}, make([]float32, n*s.rows)
	m, px, py := mem.matrix(s.cols, 0, s), mem.floats(x), mem.floats(y)
	require.NoError(t, mem.err)
	table, segments := m.Table()
	require.NoError(t, softTilesProduct.Launch(d, hip.Grid{Blocks: 1}, &softTilesArgs{
		X: px, Y: py, Weights: table, Segments: segments, Rows: int32(n), Out: int32(s.rows), In: int32(s.cols),
	}))
	require.NoError(t, hip.ReadOf(d, y, py))
	require.NoError(t, mem.free())
	return y
}

// eachRounding calls f for a host of each rounding of x, where the machine has vectors for it.
func eachRounding(t *testing.T, f func(d hip.Device, a hip.Activations)) {
	if levels := hip.SIMDLevels(); levels[len(levels)-1] != hip.SIMDAVX512BF16 && levels[len(levels)-1] != hip.SIMDAMX {
		t.Skip("the machine does not multiply bfloat16")
	}
	for _, a := range append([]hip.Activations{hip.ActivationsExact}, rounded...) {
		d, err := hip.OpenHost(hip.HostOptions{Threads: 1, Activations: a})
		require.NoError(t, err)
		f(d, a)
		require.NoError(t, d.Close())
	}
}

// TestTilesOfParts: x as three, two and one bfloat16, in rows that fill tiles, sets and turns
// of them, and that do not, as columns do with panels and rows of weights with groups of them.
func TestTilesOfParts(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 9))
	eachRounding(t, func(d hip.Device, a hip.Activations) {
		for _, c := range []struct {
			out, cols int
			rows      []int
		}{
			{37, 256, []int{2, 5, 6, 8, 15, 16, 17, 24, 25, 32, 33, 48, 49, 97}},
			{167, 640, []int{17, 50}},
			{7, 128, []int{513}},
		} {
			for _, f := range []Format{BF16, MXFP8} {
				s := newStored(r, f, c.out, c.cols)
				for _, n := range c.rows {
					x := randomFloats(r, n*c.cols)
					y := multipliedSoftly(t, d, x, s)
					require.NoError(t, hiptest.Within(y, naiveProduct(x, s), roundingBound(a)), "%v, %v, %d rows", a, f, n)
					if a == hip.ActivationsBF16 {
						require.Error(t, hiptest.Within(y, naiveProduct(x, s), 1e-5), "%v, %d rows are not rounded", f, n)
					}
				}
			}
		}
	})
}

// TestTilesOfNaN: rows of weights that tiles do not multiply, beside others.
func TestTilesOfNaN(t *testing.T) {
	const out, cols = 75, 640
	r := rand.New(rand.NewPCG(7, 10))
	s := newStored(r, MXFP8, out, cols)
	for _, at := range []int{40*cols + 600, 66 * cols} {
		s.data[at], s.values[at] = 0x7f, float32(math.NaN())
	}
	eachRounding(t, func(d hip.Device, a hip.Activations) {
		for _, n := range []int{3, 77} {
			x := randomFloats(r, n*cols)
			require.NoError(t, hiptest.Within(multipliedSoftly(t, d, x, s), naiveProduct(x, s), roundingBound(a)), "%v, %d rows", a, n)
		}
	})
}
