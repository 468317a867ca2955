package weights

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestFewProductOnGPUs: every number of rows of x, rows of weights around those of a wave,
// columns of one unit, of fewer than there are waves, and of one more; however the waves of a
// block share them.
func TestFewProductOnGPUs(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 14))
	var cases []hiptest.Case
	for _, f := range []Format{BF16, MXFP8} {
		for _, c := range []struct{ out, cols int }{{7, 128}, {16, 384}, {131, 128}, {40, 1152}} {
			s := newStored(r, f, c.out, c.cols)
			for _, rows := range []int{2, 3, 4, 5, 8, 9, 15, 16} {
				for tile := fewTile; tile <= 128; tile *= 2 {
					if rows%4 > 0 && tile > fewTile { // each once
						continue
					}
					cases = append(cases, fewCase(fmt.Sprintf("%v/%dx%d/%d rows/%d a block", f, c.out, c.cols, rows, tile), tile, randomFloats(r, rows*c.cols), s))
				}
			}
		}
	}
	onWarpgroups(t, cases)
}

// TestFewProductOfExtremes: rows of x of any magnitude, with values that a float16 would make
// zero or infinity; NaN and infinity in x and in weights, and a scale that is NaN, which spoil
// nothing else; scales of 2^-127 and of 2^100.
func TestFewProductOfExtremes(t *testing.T) {
	const out, cols, rows = 19, 256, 7
	r := rand.New(rand.NewPCG(1, 15))
	var cases []hiptest.Case
	for _, f := range []Format{BF16, MXFP8} {
		s, x := newStored(r, f, out, cols), randomFloats(r, rows*cols)
		for i, power := range []int{-90, -24, 0, 20, 90, 0, 0} {
			for c := range cols {
				x[i*cols+c] = float32(math.Ldexp(float64(x[i*cols+c]), power-c%30))
			}
		}
		for c := range cols {
			x[5*cols+c] = 0
		}
		cases = append(cases, fewCase(fmt.Sprintf("%v/magnitudes", f), fewTile, x[:6*cols], s))
		x[6*cols+3] = float32(math.NaN())
		x[2*cols+9] = float32(math.Inf(1))
		cases = append(cases, fewCase(fmt.Sprintf("%v/x not finite", f), fewTile, x, s))
		if f == BF16 {
			copy(s.data[2*(4*cols+7):], []byte{0xc0, 0x7f})
		} else {
			s.data[4*cols+7] = 0xff
			s.scale[5*cols/32+6] = 255
		}
		cases = append(cases, fewCase(fmt.Sprintf("%v/weights not finite", f), 2*fewTile, x[:2*cols], s))
	}
	for _, code := range []byte{0, 1, 227} {
		s, x := newStored(r, MXFP8, out, cols), randomFloats(r, 3*cols)
		for i := range s.scale {
			s.scale[i] = code
		}
		for i := range x {
			x[i] = float32(math.Ldexp(float64(x[i]), 127-int(code)))
		}
		cases = append(cases, fewCase(fmt.Sprintf("all scales %d", code), fewTile, x, s))
	}
	onWarpgroups(t, cases)
}

// onWarpgroups compares cases where few rows have kernels of their own.
func onWarpgroups(t *testing.T, cases []hiptest.Case) {
	t.Helper()
	served := false
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		if d.Info().Warpgroups {
			served = true
			hiptest.Compare(t, hip.Check(d), cases...)
		}
	})
	require.True(t, served, "some GPU has warpgroups")
}

// fewCase multiplies with the kernel for so many rows of x, tile rows of weights a block.
func fewCase(name string, tile int, x []float32, s stored) hiptest.Case {
	return onMatrixUnits(hiptest.Case{
		Name: name,
		Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
			a := &arena{d: d}
			var room SplitRows
			t.Cleanup(func() { require.NoError(t, errors.Join(room.Free(d), a.free())) })
			rows := len(x) / s.cols
			m, px := a.matrix(s.cols, 0, s), a.floats(x)
			require.NoError(t, a.err)
			y := make([]float32, rows*m.Rows)
			py := a.floats(y)
			require.NoError(t, a.err)
			k := hip.Choose(product, func(p *productKernel) bool { return p.on == fewOnMatrix && p.from <= rows && rows <= p.x })
			require.Equal(t, fewOnMatrix, k.on)
			run := func() error {
				parts, err := room.SplitFew(d, m, px, rows)
				if err != nil {
					return err
				}
				return k.Launch(d, k.grid(m, rows, tile), &productArgs{
					X: px, Parts: parts, Y: py, Weights: m.table, Segments: int32(len(m.segments)),
					Rows: int32(rows), Out: int32(m.Rows), In: int32(m.Cols), Tile: int64(tile),
				})
			}
			return run, func() ([]float32, []int32, error) { return y, nil, hip.ReadOf(d, y, py) }
		},
	})
}

// TestF16Bits: every float16 comes back, and halfway between two the even one; 65520 and more
// is infinity.
func TestF16Bits(t *testing.T) {
	for bits := range uint32(0x7c00) {
		low, high := halfToFloat32(uint16(bits)), halfToFloat32(uint16(bits+1))
		require.Equal(t, uint16(bits), f16Bits(low))
		require.Equal(t, uint16(bits|0x8000), f16Bits(-low))
		if bits+1 < 0x7c00 {
			middle := low + (high-low)/2
			require.Equal(t, uint16(bits+bits%2), f16Bits(middle), "halfway from %v", low)
			require.Equal(t, uint16(bits), f16Bits(math.Nextafter32(middle, 0)))
			require.Equal(t, uint16(bits+1), f16Bits(math.Nextafter32(middle, high)))
		}
	}
	require.Equal(t, uint16(0x7bff), f16Bits(math.Nextafter32(65520, 0)))
	require.Equal(t, uint16(0x7c00), f16Bits(65520))
	require.Equal(t, uint16(0xfc00), f16Bits(float32(math.Inf(-1))))
	require.Equal(t, uint16(0x7e00), f16Bits(float32(math.NaN())))
}
