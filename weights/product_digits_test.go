package weights

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// onHosts runs a test on the host at every level of vector instructions.
func onHosts(t *testing.T, test func(t *testing.T, d hip.Device)) {
	t.Helper()
	for name, d := range hiptest.Hosts(1) {
		t.Run(name, func(t *testing.T) { test(t, d) })
		require.NoError(t, d.Close())
	}
}

var fourBitFormats = []Format{MXFP4, NVFP4}

// withScale is rows of four-bit codes that count up, all with one scale; the global scale
// is 1.
func withScale(f Format, rows, cols int, scale func(row int) byte) stored {
	s := stored{format: f, rows: rows, cols: cols}
	s.of = one
	for row := range rows {
		for i := range f.rowBytes(cols) {
			s.data = append(s.data, byte(int(i)*37+row*11))
		}
		for range f.scaleRowBytes(cols) {
			s.scale = append(s.scale, scale(row))
		}
	}
	return s
}

// TestFourBitProductOfIntegers: products of whole numbers and powers of two are exact, in
// whatever form and order they are summed.
func TestFourBitProductOfIntegers(t *testing.T) {
	unit := map[Format]byte{MXFP4: 127, NVFP4: 7 << 3} // 1
	onHosts(t, func(t *testing.T, d hip.Device) {
		r := rand.New(rand.NewPCG(9, 1))
		for _, f := range fourBitFormats {
			for _, cols := range []int{64, 255, 256, 257, 320, 511, 512, 640, 830} {
				for _, rows := range []int{1, 2, 3, 65, 66, 131} {
					s := withScale(f, rows, cols, func(int) byte { return unit[f] })
					n := 1 + r.IntN(digitRows+1)
					x := make([]float32, n*cols)
					for i := range x {
						x[i] = float32(r.IntN(255) - 127)
					}
					require.Equal(t, multiplied(t, hip.NewReference(), 0, x, s), multiplied(t, d, 0, x, s), "%v: %d × %d, %d rows of x", f, rows, cols, n)
				}
			}
		}
	})
}

// TestFourBitProductOfAllScales has a row for every scale, and compares each within its own
// magnitude: negative scales and subnormal ones, and NaN in its own row alone.
func TestFourBitProductOfAllScales(t *testing.T) {
	const rows, cols = 256, 576
	x := randomFloats(rand.New(rand.NewPCG(9, 2)), 3*cols)
	for _, f := range fourBitFormats {
		s := withScale(f, rows, cols, func(row int) byte { return byte(row) })
		want := multiplied(t, hip.NewReference(), 0, x, s)
		onHosts(t, func(t *testing.T, d hip.Device) {
			for _, n := range []int{1, 3} {
				got := multiplied(t, d, 0, x[:n*cols], s)
				for i := range n * rows {
					scale := i % rows
					if f == MXFP4 && scale > 240 && scale < 255 { // sums overflow
						continue
					}
					g, w := float64(got[i]), float64(want[i])
					nan := f == MXFP4 && scale == 255 || f == NVFP4 && scale&0x7f == 0x7f
					require.Equal(t, nan, math.IsNaN(w))
					require.Equal(t, nan, math.IsNaN(g), "%v, scale %d", f, scale)
					// The magnitudes of the terms sum up to about 2 000 times the scale.
					var unit [1]float32
					f.Decode(unit[:], []byte{2}, []byte{byte(scale)})
					bound := math.Abs(float64(unit[0]))*2e3*1e-6 + math.Ldexp(1, -149)*cols
					require.False(t, math.Abs(g-w) > bound, "%v, scale %d: %v, want %v", f, scale, g, w)
				}
			}
		})
	}
}

// TestFourBitProductOfAnyX: the error is within 2^−23 of the largest x of 16 columns for
// each product, whatever lies beside it: outliers, values just below a power of two, blocks
// of zeros, numbers so small that they have no multiples of a power of two to be.
func TestFourBitProductOfAnyX(t *testing.T) {
	const rows, cols = 37, 512
	r := rand.New(rand.NewPCG(9, 3))
	almostTwo := math.Float32frombits(0x3fffffff)
	for name, value := range map[string]func(c int) float32{
		"outliers": func(c int) float32 {
			if c%29 == 0 {
				return 1e6 * float32(r.NormFloat64())
			}
			return float32(r.NormFloat64())
		},
		"blocks of each magnitude":   func(c int) float32 { return float32(math.Ldexp(r.NormFloat64(), c/16*4-60)) },
		"just below a power of two":  func(c int) float32 { return almostTwo * float32(1-2*(c%2)) },
		"digits that carry":          func(c int) float32 { return float32((c%2*2-1)*(0x7f7f80+c%256-128)) / (1 << 22) },
		"large":                      func(c int) float32 { return float32(1e34 * r.NormFloat64()) },
		"small":                      func(c int) float32 { return float32(1e-30 * r.NormFloat64()) },
		"zeros, but for one":         func(c int) float32 { return float32(max(0, c-cols+2)) },
		"some blocks nearly nothing": func(c int) float32 { return float32(math.Ldexp(r.NormFloat64(), -c/256*110)) },
		"nothing":                    func(int) float32 { return 0 },
	} {
		for _, f := range fourBitFormats {
			s := newStored(r, f, rows, cols)
			x := make([]float32, 2*cols)
			for i := range x {
				x[i] = value(i % cols)
			}
			want := naiveProduct(x, s)
			onHosts(t, func(t *testing.T, d hip.Device) {
				got := multiplied(t, d, 0, x, s)
				for i := range got {
					bound := 0.0
					for c := range cols {
						block := x[i/rows*cols+c/16*16:][:16]
						largest := 0.0
						for _, v := range block {
							largest = max(largest, math.Abs(float64(v)))
						}
						bound += math.Abs(float64(s.values[i%rows*cols+c])) * largest * 0x1p-22
					}
					require.False(t, math.Abs(float64(got[i])-float64(want[i])) > bound, "%s, %v: y[%d] is %v, want %v ± %v", name, f, i, got[i], want[i], bound)
				}
			})
		}
	}
}

// TestFourBitRowsOfX: a row of x has the same result, bit by bit, whatever other rows there
// are, up to the number that is multiplied in this way, and whatever part of the weights is
// multiplied at a time; also beside a row that is not finite.
func TestFourBitRowsOfX(t *testing.T) {
	const rows, cols = 70, 640
	r := rand.New(rand.NewPCG(9, 4))
	x := randomFloats(r, digitRows*cols)
	onHosts(t, func(t *testing.T, d hip.Device) {
		if !strings.HasSuffix(d.Info().Name, hip.SIMDAVX512VBMI.String()) {
			return // one row is multiplied in a way of its own
		}
		for _, f := range fourBitFormats {
			s := newStored(r, f, rows, cols)
			together := multiplied(t, d, 0, x, s)
			broken := append([]float32(nil), x...)
			broken[3*cols+300] = float32(math.NaN())
			besideNaN := multiplied(t, d, 0, broken, s)
			for i := range digitRows {
				alone := multiplied(t, d, 0, x[i*cols:(i+1)*cols], s)
				require.Equal(t, alone, together[i*rows:(i+1)*rows], "%v: row %d", f, i)
				if i != 3 {
					require.Equal(t, alone, besideNaN[i*rows:(i+1)*rows], "%v: row %d", f, i)
				}
			}
			for _, v := range besideNaN[3*rows : 4*rows] {
				require.True(t, math.IsNaN(float64(v)), fmt.Sprint(v))
			}
		}
	})
}
