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

// productQuantizedCase rounds x and multiplies it with the parts.
func productQuantizedCase(name string, pad int, x []float32, parts ...stored) hiptest.Case {
	return hiptest.Case{
		Name: name, MaxError: tiledError,
		Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
			a, q := &arena{d: d}, &QuantizedRows{}
			t.Cleanup(func() {
				require.NoError(t, q.Free(d))
				require.NoError(t, a.free())
			})
			cols, rows := parts[0].cols, len(x)/parts[0].cols
			m, px := a.matrix(cols, pad, parts...), a.floats(x)
			require.NoError(t, a.err)
			y := make([]float32, rows*m.Rows)
			py := a.floats(y)
			require.NoError(t, a.err)
			run := func() error {
				if err := q.Quantize(d, px, rows, cols); err != nil {
					return err
				}
				return m.ProductQuantized(d, py, px, q)
			}
			return run, func() ([]float32, []int32, error) { return y, nil, hip.ReadOf(d, y, py) }
		},
	}
}

// TestProductQuantizedOnGPUs: every kernel, with what it leaves of rows and columns, with
// what is not finite, and with segments of both kinds within a tile.
func TestProductQuantizedOnGPUs(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 50))
	var cases []hiptest.Case
	add := func(name string, pad, rows int, s ...stored) {
		x := randomFloats(rng, rows*s[0].cols)
		x[3], x[len(x)-1] = float32(math.NaN()), float32(math.Inf(-1))
		cases = append(cases, productQuantizedCase(fmt.Sprintf("%s/%d cols/%d rows", name, s[0].cols, rows), pad, x, s...))
	}
	for _, rows := range []int{5, 17, 70} {
		for _, cols := range []int{16, 48, 144, 272, 400} {
			add("MXFP8", 0, rows, newStored(rng, MXFP8, 67, cols))
		}
		nan := newStored(rng, MXFP8, 67, 160)
		nan.data[2*160+7], nan.scale[5*5+4] = 0xff, 255
		add("NaN", 0, rows, nan)
		add("mixed", 0, rows, newStored(rng, BF16, 3, 144), newStored(rng, MXFP8, 70, 144), newStored(rng, BF16, 20, 144), newStored(rng, MXFP8, 1, 144))
	}
	add("odd", 0, 6, newStored(rng, MXFP8, 19, 37))
	add("4 bytes off", 4, 6, newStored(rng, F32, 19, 64), newStored(rng, MXFP8, 33, 64))
	test := func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) }
	hiptest.OnGPUs(t, test)
	hiptest.OnGPUs(t, test, "gfx950", "gfx1200")
}

// TestProductQuantized compares with a sum in float64 of what is stored and what is rounded.
func TestProductQuantized(t *testing.T) {
	rng := rand.New(rand.NewPCG(22, 50))
	const rows, cols = 6, 144
	parts := []stored{newStored(rng, MXFP8, 21, cols), newStored(rng, BF16, 5, cols), newStored(rng, MXFP8, 2, cols)}
	x := randomFloats(rng, rows*cols)
	rounded := make([]float32, len(x))
	for i := range rows {
		for c := 0; c < cols; c += 32 {
			at, end := i*cols+c, i*cols+min(c+32, cols)
			quantizeMXFP8(rounded[at:end], make([]byte, end-at), x[at:end])
		}
	}
	var want []float32
	for i := range rows {
		for _, s := range parts {
			of := x
			if s.format == MXFP8 {
				of = rounded
			}
			for j := range s.rows {
				want = append(want, float32(dot64(s.values[j*cols:(j+1)*cols], of[i*cols:(i+1)*cols])))
			}
		}
	}
	c := productQuantizedCase("", 0, x, parts...)
	for _, d := range []hip.Device{hip.NewReference(), hip.NewHost()} {
		run, results := c.Setup(t, d)
		require.NoError(t, run())
		got, _, err := results()
		require.NoError(t, err)
		require.NoError(t, hiptest.Within(got, want, 1e-6))
	}
}

func TestQuantizes(t *testing.T) {
	rng := rand.New(rand.NewPCG(23, 50))
	d := hip.NewReference()
	of := func(formats ...Format) *Matrix {
		var parts []stored
		for _, f := range formats {
			parts = append(parts, newStored(rng, f, 2, 32))
		}
		a := &arena{d: d}
		t.Cleanup(func() { require.NoError(t, a.free()) })
		m := a.matrix(32, 0, parts...)
		require.NoError(t, a.err)
		return m
	}
	mixed, plain := of(BF16, MXFP8), of(BF16, F32)
	require.True(t, mixed.Quantizes(hip.ActivationsMXFP8, 5))
	require.False(t, mixed.Quantizes(hip.ActivationsMXFP8, 4))
	require.False(t, mixed.Quantizes(hip.ActivationsExact, 5))
	require.False(t, plain.Quantizes(hip.ActivationsMXFP8, 5))

	var q QuantizedRows
	require.NoError(t, mixed.ProductQuantized(d, 0, 0, &QuantizedRows{cols: 32}), "no rows")
	err := mixed.ProductQuantized(d, 0, 0, &q)
	require.ErrorIs(t, err, hip.ErrInput)
	require.EqualError(t, err, "weights: product: q is rows of 0, want rows of 32, as the matrix has columns")
}
