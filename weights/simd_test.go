package weights

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// rowCounts of x are those at which a product changes its way: one row, as stored,
// streamed in one, two and three tiles, and blocked.
var rowCounts = []int{1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 16, 17, 33, 64, 65, 170}

// TestProductCutoffs multiplies around every cutoff of rows and columns, with more
// rows of weights than a part has, on every level.
func TestProductCutoffs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 1))
	colCounts := []int{63, 64, 65, 128, 192, 511, 512, 513, 576, 640, 1152}
	if hiptest.RaceDetector {
		colCounts = []int{65, 640}
	}
	var cases []hiptest.Case
	for _, f := range allFormats {
		for _, cols := range colCounts {
			s := newStored(r, f, 71, cols)
			for _, n := range rowCounts {
				x := randomFloats(r, n*cols)
				cases = append(cases, productCase(fmt.Sprintf("%v/%d cols/%d rows", f, cols, n), 1, x, s))
			}
		}
	}
	for name, d := range hiptest.Hosts(1) {
		t.Run(name, func(t *testing.T) { hiptest.Compare(t, d, cases...) })
		require.NoError(t, d.Close())
	}
}

// TestProductOfAllCodes has every code of e4m3 in a row for every scale, and compares
// each row within its own magnitude. With the codes of NaN every result is NaN.
func TestProductOfAllCodes(t *testing.T) {
	const rows, cols = 256, 256
	r := rand.New(rand.NewPCG(7, 2))
	for _, withNaN := range []bool{false, true} {
		s := stored{format: MXFP8, rows: rows, cols: cols}
		for scale := range rows {
			for c := range cols {
				code := byte(c)
				if code&0x7f == 0x7f && !withNaN {
					code = 0
				}
				s.data = append(s.data, code)
			}
			for range cols / 32 {
				s.scale = append(s.scale, byte(scale))
			}
		}
		for _, n := range []int{1, 2, 4, 5, 16, 17} {
			x := randomFloats(r, n*cols)
			want := multiplied(t, hip.NewReference(), 0, x, s)
			for name, d := range hostsOfAll(1) {
				got := multiplied(t, d, 0, x, s)
				for scale := range rows {
					if scale > 240 && scale < 255 { // sums overflow
						continue
					}
					for i := range n {
						g, w := float64(got[i*rows+scale]), float64(want[i*rows+scale])
						require.Equal(t, scale == 255 || withNaN, math.IsNaN(w))
						require.Equal(t, math.IsNaN(w), math.IsNaN(g), "%s, scale %d, row %d of %d", name, scale, i, n)
						// The magnitudes of the terms sum up to about 2^(scale−127) · 10 000.
						bound := math.Ldexp(1e4, scale-127)*max(1e-6, roundedBy(name)) + math.Ldexp(1, -149)
						require.False(t, math.Abs(g-w) > bound, "%s, scale %d, row %d of %d: %v, want %v", name, scale, i, n, g, w)
					}
				}
				require.NoError(t, d.Close())
			}
		}
	}
}

// TestProductOfInfinities: what is not finite in x or in the weights spoils its own
// results, as the definition has it.
func TestProductOfInfinities(t *testing.T) {
	const rows, cols = 40, 256
	inf := float32(math.Inf(1))
	for _, f := range []Format{F32, F16, BF16, MXFP8, MXFP4, NVFP4} {
		for _, n := range []int{1, 3, 5, 16, 17, 40} {
			s := newStored(rand.New(rand.NewPCG(7, 3)), f, rows, cols)
			x := randomFloats(rand.New(rand.NewPCG(7, 4)), n*cols)
			x[3] = inf
			x[(n-1)*cols+70] = -inf
			if n > 2 {
				x[cols+5] = float32(math.NaN())
			}
			if f == BF16 {
				copy(s.data[2*(35*cols+100):], []byte{0x80, 0x7f}) // +Inf
			}
			want := multiplied(t, hip.NewReference(), 0, x, s)
			for name, d := range hostsOfAll(1) {
				got := multiplied(t, d, 0, x, s)
				require.NoError(t, hiptest.Within(got, want, max(productBound, roundedBy(name))), "%v, %d rows on %s", f, n, name)
				require.NoError(t, d.Close())
			}
		}
	}
}
