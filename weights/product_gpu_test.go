package weights

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// tiledFormats are what matrix units multiply.
var tiledFormats = []Format{BF16, MXFP8, MXFP4, NVFP4}

// TestProductOnGPUs: every format, over columns around an access of 16 bytes and a
// block's width, rows of weights around a tile, and rows of x around what is
// multiplied together; aligned and off by odd distances.
func TestProductOnGPUs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 6))
	var cases []hiptest.Case
	for _, f := range allFormats {
		for _, cols := range []int{1, 15, 16, 33, 128, 144, 1040} {
			s := newStored(r, f, multiplyTile+3, cols)
			for _, rows := range []int{1, 2, 3, 4, 5, 21} {
				c := productCase(fmt.Sprintf("%v/%d cols/%d rows", f, cols, rows), 0, randomFloats(r, rows*cols), s)
				if (rows >= manyRows || rows >= fewFrom && cols%splitColumns == 0) && slices.Contains(tiledFormats, f) {
					c = onMatrixUnits(c)
				}
				cases = append(cases, c)
			}
		}
	}
	for _, f := range []Format{BF16, MXFP8} { // what matrix units multiply
		for _, cols := range []int{32, 96, 1056} {
			for _, rows := range []int{3, 5, 8} {
				s := newStored(r, f, 2*multiplyTile, cols)
				c := productCase(fmt.Sprintf("%v/%d cols/%d rows", f, cols, rows), 0, randomFloats(r, rows*cols), s)
				if rows >= manyRows {
					c = onMatrixUnits(c)
				}
				cases = append(cases, c)
			}
		}
	}
	var parts []stored
	const cols = 208
	for i, f := range append(allFormats, MXFP8, BF16) {
		parts = append(parts, newStored(r, f, []int{1, 17, 130, 20}[i%4], cols))
	}
	for _, pad := range []int{0, 1, 2, 4, 8} {
		cases = append(cases, productCase(fmt.Sprintf("segments/%d bytes off", pad), pad, randomFloats(r, 2*cols), parts...))
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) })
}

// TestNotFiniteOnGPUs: NaN and infinity in x, in a weight and in a scale give what the
// reference has, and spoil nothing else.
func TestNotFiniteOnGPUs(t *testing.T) {
	const out, cols = 20, 160
	r := rand.New(rand.NewPCG(1, 7))
	var cases []hiptest.Case
	for _, f := range []Format{BF16, MXFP8} {
		for _, rows := range []int{1, 2, 5, 17, 70} {
			s, x := newStored(r, f, out, cols), randomFloats(r, rows*cols)
			x[3], x[rows*cols-1] = float32(math.NaN()), float32(math.Inf(-1))
			if f == MXFP8 {
				s.data[2*cols+7], s.scale[5*(cols/32)+4] = 0xff, 255
			} else {
				copy(s.data[2*(2*cols+7):], []byte{0xc0, 0x7f})
			}
			c := productCase(fmt.Sprintf("%v/%d rows", f, rows), 0, x, s)
			if rows >= manyRows {
				c = onMatrixUnits(c)
			}
			cases = append(cases, c)
		}
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) })
}

// TestTiledProductOnGPUs: rows of x around tiles, rows of weights around tiles, columns
// around a step; segments that split a tile.
func TestTiledProductOnGPUs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 8))
	var cases []hiptest.Case
	for _, f := range tiledFormats {
		for _, rows := range []int{9, 15, 16, 17, 31, 33, 64, 65, 130} {
			const cols = 96
			s := newStored(r, f, 67, cols)
			cases = append(cases, onMatrixUnits(productCase(fmt.Sprintf("%v/%d rows", f, rows), 0, randomFloats(r, rows*cols), s)))
		}
		for _, cols := range []int{16, 32, 48, 64, 80, 144, 272, 528} {
			for _, rows := range []int{10, 18} {
				s := newStored(r, f, 5, cols)
				cases = append(cases, onMatrixUnits(productCase(fmt.Sprintf("%v/%d cols/%d rows", f, cols, rows), 0, randomFloats(r, rows*cols), s)))
			}
		}
		for _, out := range []int{1, 64, 129} {
			const cols, rows = 64, 36
			s := newStored(r, f, out, cols)
			cases = append(cases, onMatrixUnits(productCase(fmt.Sprintf("%v/%d weights", f, out), 0, randomFloats(r, rows*cols), s)))
		}
		var parts []stored
		for _, out := range []int{1, 17, 130, 20} {
			parts = append(parts, newStored(r, f, out, 160))
		}
		for _, pad := range []int{0, 4} { // the other kernel, off by 4 bytes
			cases = append(cases, onMatrixUnits(productCase(fmt.Sprintf("%v/segments/%d bytes off", f, pad), pad, randomFloats(r, 40*160), parts...)))
		}
	}
	var mixed []stored
	for i, out := range []int{1, 17, 130, 20} {
		mixed = append(mixed, newStored(r, tiledFormats[i], out, 160))
	}
	for _, rows := range []int{12, 40} {
		cases = append(cases, onMatrixUnits(productCase(fmt.Sprintf("all formats/%d rows", rows), 0, randomFloats(r, rows*160), mixed...)))
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) })
}

// TestTiledProductOnArchitectures: each kernel for many rows of x, with a rest of columns, of
// rows of weights and of x, what is not finite, and segments that split a tile; and few
// rows, of which an AMD GPU with waves of 32 has fewer weights in flight.
func TestTiledProductOnArchitectures(t *testing.T) {
	const out, cols = 67, 144
	r := rand.New(rand.NewPCG(1, 9))
	var cases []hiptest.Case
	var mixed []stored
	for _, f := range []Format{BF16, MXFP8} {
		s := newStored(r, f, out, cols)
		mixed = append(mixed, s)
		for _, rows := range []int{3, 12, 24, 70} {
			x := randomFloats(r, rows*cols)
			x[3], x[rows*cols-1] = float32(math.NaN()), float32(math.Inf(-1))
			cases = append(cases, onMatrixUnits(productCase(fmt.Sprintf("%v/%d rows", f, rows), 0, x, s)))
		}
	}
	cases = append(cases, onMatrixUnits(productCase("both formats/40 rows", 0, randomFloats(r, 40*cols), mixed...)))
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) }, "gfx906", "gfx1030", "gfx1100", "gfx1200", "gfx950")
}

// onMatrixUnits bounds a case by what the kernels for many rows of x may be off.
func onMatrixUnits(c hiptest.Case) hiptest.Case {
	c.MaxError = tiledError
	return c
}
