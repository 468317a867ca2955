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

// productBound is what float32 sums may be off by, of the largest result.
const productBound = 1e-6

// productDevices are the devices that are compared with the reference.
func productDevices(t *testing.T) map[string]hip.Device {
	devices := hiptest.Hosts(2)
	devices["host 3 threads"], devices["checked host"] = hip.NewHost(3), hip.Check(hip.NewHost())
	t.Cleanup(func() {
		for name, d := range devices {
			bytes, live := hiptest.InUse(d)
			require.Zero(t, bytes, name)
			require.Zero(t, live, name)
			require.NoError(t, d.Close())
		}
	})
	return devices
}

func randomFloats(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// productCase multiplies x with stacked weights that begin pad bytes after an
// aligned address and end at the end of their allocation.
func productCase(name string, pad int, x []float32, parts ...stored) hiptest.Case {
	return hiptest.Case{
		Name: name, MaxError: productBound,
		Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
			a := &arena{d: d}
			t.Cleanup(func() { require.NoError(t, a.free()) })
			return setUpProduct(t, a, pad, x, parts)
		},
	}
}

func setUpProduct(t testing.TB, a *arena, pad int, x []float32, parts []stored) (run func() error, results func() ([]float32, []int32, error)) {
	t.Helper()
	cols, rows := parts[0].cols, len(x)/parts[0].cols
	m, px := a.matrix(cols, pad, parts...), a.floats(x)
	require.NoError(t, a.err)
	y := make([]float32, rows*m.Rows)
	py := a.floats(y)
	require.NoError(t, a.err)
	run = func() error {
		if !m.Splits(a.d, rows) && !m.Few(a.d, px, rows, 1) {
			return m.Product(a.d, py, px, rows)
		}
		var room SplitRows
		return errors.Join(m.Product(a.d, py, px, rows), m.ProductSplit(a.d, py, px, rows, &room), a.d.Sync(), room.Free(a.d))
	}
	return run, func() ([]float32, []int32, error) { return y, nil, hip.ReadOf(a.d, y, py) }
}

// multiplied is the result of a [productCase] on d.
func multiplied(t *testing.T, d hip.Device, pad int, x []float32, parts ...stored) []float32 {
	t.Helper()
	a := &arena{d: d}
	run, results := setUpProduct(t, a, pad, x, parts)
	require.NoError(t, run())
	y, _, err := results()
	require.NoError(t, err)
	require.NoError(t, a.free())
	return y
}

// naiveProduct is the product of the closed-form values.
func naiveProduct(x []float32, parts ...stored) []float32 {
	var y []float32
	cols := parts[0].cols
	for ; len(x) > 0; x = x[cols:] {
		for _, s := range parts {
			for row := range s.rows {
				sum := 0.0
				for c, v := range s.values[row*cols : (row+1)*cols] {
					sum += float64(v) * float64(x[c])
				}
				y = append(y, float32(sum))
			}
		}
	}
	return y
}

func TestProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var cases []hiptest.Case
	for _, f := range allFormats {
		for _, cols := range []int{1, 31, 32, 33, 64, 96, 127, 128, 129, 512} {
			s := newStored(r, f, multiplyTile+3, cols)
			for _, rows := range []int{1, 2, 3, 63, 64, 65} {
				x := randomFloats(r, rows*cols)
				c := productCase(fmt.Sprintf("%v/%d cols/%d rows", f, cols, rows), 0, x, s)
				cases = append(cases, c)
				require.Equal(t, naiveProduct(x, s), multiplied(t, hip.NewReference(), 0, x, s), c.Name)
			}
		}
	}
	for name, d := range productDevices(t) {
		t.Run(name, func(t *testing.T) { hiptest.Compare(t, d, cases...) })
	}
}

// TestProductOfSegments stacks all formats, off alignment by every odd distance,
// in tensors smaller and larger than a tile, big enough for several threads.
func TestProductOfSegments(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const cols = 417
	var parts []stored
	for i, f := range append(allFormats, MXFP8, BF16) {
		parts = append(parts, newStored(r, f, []int{1, 17, 130, 200}[i%4], cols))
	}
	var cases []hiptest.Case
	pads := []int{0, 1, 2, 3, 5, 7}
	if hiptest.RaceDetector {
		pads = pads[:2]
	}
	for _, rows := range []int{1, 2, 3, 5} {
		for _, pad := range pads {
			x := randomFloats(r, rows*cols)
			cases = append(cases, productCase(fmt.Sprintf("%d rows/%d bytes off", rows, pad), pad, x, parts...))
			require.Equal(t, naiveProduct(x, parts...), multiplied(t, hip.NewReference(), pad, x, parts...))
		}
	}
	for name, d := range productDevices(t) {
		t.Run(name, func(t *testing.T) { hiptest.Compare(t, d, cases...) })
	}
}

// TestProductWithIdentity returns x itself, whatever the order of the sums.
func TestProductWithIdentity(t *testing.T) {
	const n = 67
	identity := stored{format: BF16, rows: n, cols: n, data: make([]byte, 2*n*n)}
	for i := range n {
		copy(identity.data[2*(i*n+i):], []byte{0x80, 0x3f})
	}
	x := randomFloats(rand.New(rand.NewPCG(1, 3)), 3*n)
	devices := productDevices(t)
	devices["reference"] = hip.NewReference()
	for name, d := range devices {
		require.Equal(t, x, multiplied(t, d, 1, x, identity), name)
	}
}

// TestProductRowsAreIndependent multiplies rows together and alone: a row's result
// depends neither on the other rows nor on its place, and on their number only by
// rounding. In plain Go and on the reference it is the same bit for bit, with vectors as
// long as neither or both are one row, or more than are taken as they are stored.
func TestProductRowsAreIndependent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 4))
	const rows, cols = 65, 129
	devices := productDevices(t)
	devices["reference"] = hip.NewReference()
	for _, f := range allFormats {
		s, x := newStored(r, f, 21, cols), randomFloats(r, rows*cols)
		for name, d := range devices {
			multiply := func(x []float32) []float32 { return multiplied(t, d, 0, x, s) }
			together := multiply(x)
			exact := name == "reference" || name == "host with plain Go"
			for _, n := range []int{1, 2, 3, 4, 16, 17, 40} {
				others := append([]float32(nil), x...)
				for i := range others {
					if i/cols%n > 0 { // all but each nth row
						others[i] = 1 / (others[i] + 3)
					}
				}
				for first := 0; first+n <= rows; first += 7 * n {
					alone := multiply(x[first*cols : (first+n)*cols])
					require.NoError(t, hiptest.Within(alone, together[first*s.rows:(first+n)*s.rows], productBound), "%v on %s: rows %d to %d", f, name, first, first+n)
					if exact {
						require.Equal(t, together[first*s.rows:(first+n)*s.rows], alone, "%v on %s: rows %d to %d", f, name, first, first+n)
					}
					beside := multiply(others[first*cols : (first+n)*cols])
					require.Equal(t, alone[:s.rows], beside[:s.rows], "%v on %s: row %d beside others", f, name, first)
				}
			}
		}
	}
}

// TestProductNaN: a NaN scale or weight spoils the rows of weights that it
// belongs to, and a NaN in x its own row of y. Values are small integers, so
// that every other result is exact.
func TestProductNaN(t *testing.T) {
	const rows, cols, out = 3, 161, 140
	ones := func(f Format) stored {
		s := newStored(rand.New(rand.NewPCG(1, 5)), f, out, cols)
		one, scale := map[Format][]byte{
			F32: {0, 0, 0x80, 0x3f}, F16: {0, 0x3c}, BF16: {0x80, 0x3f}, MXFP8: {0x38}, FP8F32: {0x38}, fp8BF16: {0x38}, INT8: {1}, MXFP4: {0x22}, NVFP4: {0x22},
		}[f], map[Format][]byte{MXFP8: {127}, FP8F32: {0, 0, 0x80, 0x3f}, fp8BF16: {0x80, 0x3f}, INT8: {0x80, 0x3f}, MXFP4: {127}, NVFP4: {0x38}}[f]
		for i := range s.data {
			s.data[i] = one[i%len(one)]
		}
		s.of = global{1, 1}
		for i := range s.scale {
			s.scale[i] = scale[i%len(scale)]
		}
		return s
	}
	nan := float32(math.NaN())
	type nanTest struct {
		name   string
		format Format
		spoil  func(s *stored, x []float32)
		isNaN  func(row, col int) bool
	}
	tests := []nanTest{
		{"MXFP8 scale", MXFP8, func(s *stored, _ []float32) { s.scale[2*6+5] = 255 }, func(_, col int) bool { return col == 2 }},
		{"MXFP8 weight", MXFP8, func(s *stored, _ []float32) { s.data[3*cols+1] = 0x7f }, func(_, col int) bool { return col == 3 }},
		{"FP8 F32 scale", FP8F32, func(s *stored, _ []float32) { s.scale[2*4+2] = 0xc0; s.scale[2*4+3] = 0x7f }, func(_, col int) bool { return col >= 128 }},
		{"INT8 scale", INT8, func(s *stored, _ []float32) { s.scale[2*(4*6+1)] = 0xc0; s.scale[2*(4*6+1)+1] = 0x7f }, func(_, col int) bool { return col == 4 }},
		{"MXFP4 scale", MXFP4, func(s *stored, _ []float32) { s.scale[2*6+4] = 255 }, func(_, col int) bool { return col == 2 }},
		{"NVFP4 scale", NVFP4, func(s *stored, _ []float32) { s.scale[3*11+10] = 0xff }, func(_, col int) bool { return col == 3 }},
		{"FP8 BF16 scale", fp8BF16, func(s *stored, _ []float32) { s.scale[0] = 0xc0; s.scale[1] = 0x7f }, func(_, col int) bool { return col < 128 }},
	}
	for _, f := range allFormats {
		tests = append(tests, nanTest{"x of " + f.String(), f, func(_ *stored, x []float32) { x[cols+160] = nan }, func(row, _ int) bool { return row == 1 }})
	}
	devices := productDevices(t)
	devices["reference"] = hip.NewReference()
	for _, test := range tests {
		for name, d := range devices {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				s, x := ones(test.format), make([]float32, rows*cols)
				for i := range x {
					x[i] = float32(i%5 - 2)
				}
				want := multiplied(t, d, 0, x, s)
				test.spoil(&s, x)
				got := multiplied(t, d, 0, x, s)
				for i := range got {
					if test.isNaN(i/out, i%out) {
						want[i] = nan
					}
					requireSameFloat(t, float64(want[i]), got[i], "y[%d][%d]", i/out, i%out)
				}
			})
		}
	}
}
