package weights

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestQuantizeMXFP8 rounds 32 values, of which the rest is zero.
func TestQuantizeMXFP8(t *testing.T) {
	const e4m3Step = 1.0 / 512 // the smallest code
	nan, infinity := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name  string
		x     []float64
		scale byte // s + 127
		want  []float64
	}{
		{"zeros", []float64{0, math.Copysign(0, -1)}, 0, []float64{0, 0}},
		{"powers of two", []float64{1, -0.5, 0.25}, 119, []float64{1, -0.5, 0.25}},
		{"the scale is that of the largest", []float64{1.75, 256, -300}, 127, []float64{1.75, 256, -288}},
		{"ties go to even", []float64{256, 17, 19, -21, 23, 272, 304, 336}, 127, []float64{256, 16, 20, -20, 24, 256, 320, 320}},
		{"beside ties", []float64{256, 17.0001, 18.9999, 271.9, 272.1}, 127, []float64{256, 18, 18, 256, 288}},
		{"448 is the largest", []float64{448, 449, -464, 480, 511.9}, 127, []float64{448, 448, -448, 448, 448}},
		{"2^9 has the next scale", []float64{512, 449, 20}, 128, []float64{512, 448, 20}},
		{"small codes are subnormal", []float64{256, 3 * e4m3Step, 7 * e4m3Step, 8 * e4m3Step}, 127, []float64{256, 3 * e4m3Step, 7 * e4m3Step, 8 * e4m3Step}},
		{"ties of subnormal codes", []float64{256, 0.5 * e4m3Step, 1.5 * e4m3Step, 2.5 * e4m3Step, 7.5 * e4m3Step}, 127, []float64{256, 0, 2 * e4m3Step, 2 * e4m3Step, 8 * e4m3Step}},
		{"too small for a code", []float64{256, 0.49 * e4m3Step, -1e-30}, 127, []float64{256, 0, 0}},
		{"the smallest scale", []float64{0x1p-119, 0x1p-120, 0x1p-136}, 0, []float64{0x1p-119, 0x1p-120, 0x1p-136}},
		{"below the smallest scale", []float64{0x1p-130, 0x1p-136, 0x1p-137, 0x1p-149}, 0, []float64{0x1p-130, 0x1p-136, 0, 0}},
		{"subnormal values", []float64{0x1p-127, 0x1.9p-128}, 0, []float64{0x1p-127, 0x1.8p-128}},
		{"the largest values", []float64{math.MaxFloat32, -0x1p127, 0x1p118}, 246, []float64{0x1.cp127, -0x1p127, 0x1p118}},
		{"NaN", []float64{1, nan, 2}, 255, []float64{nan, nan, nan}},
		{"infinity", []float64{1, 3, -infinity}, 255, []float64{nan, nan, nan}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var x, values [32]float32
			for i, v := range c.x {
				x[i] = float32(v)
			}
			var codes [32]byte
			require.Equal(t, c.scale, quantizeMXFP8(values[:], codes[:], x[:]))
			for i, want := range c.want {
				require.True(t, want == float64(values[i]) || want != want && values[i] != values[i], "value %d: %v, want %v", i, values[i], want)
			}
			if c.scale == 255 {
				for i, code := range codes {
					require.Equal(t, byte(0x7f), code)
					require.NotEqual(t, values[i], values[i], "the whole block is NaN")
				}
				return
			}
			require.Equal(t, math.Signbit(c.x[1]), codes[1]&0x80 != 0)
			for i, code := range codes {
				require.Equal(t, e4m3Value(code)*math.Ldexp(1, int(c.scale)-127), float64(values[i]), "what code %d stands for", i)
			}
		})
	}
}

// TestQuantizeMXFP8Again: what is rounded stays as it is, whatever is rounded with it.
func TestQuantizeMXFP8Again(t *testing.T) {
	rng := rand.New(rand.NewPCG(19, 50))
	for range 1000 {
		var x, once, twice [32]float32
		var codes, again [32]byte
		for i := range x {
			x[i] = float32(math.Ldexp(rng.NormFloat64(), rng.IntN(40)-20))
		}
		scale := quantizeMXFP8(once[:], codes[:], x[:])
		require.Equal(t, scale, quantizeMXFP8(twice[:], again[:], once[:]))
		require.Equal(t, codes, again)
		require.Equal(t, once, twice)
		largest := 0.0
		for _, v := range x {
			largest = max(largest, math.Abs(float64(v)))
		}
		for i, v := range x {
			// Half a step of 3 bits, or of the smallest code; an eighth where the largest are cut off.
			bound := max(math.Abs(float64(v))/16, largest/256/1024)
			if math.Abs(float64(v)) > 448*math.Ldexp(1, int(scale)-127) {
				bound = math.Abs(float64(v)) / 8
			}
			require.InDelta(t, v, once[i], bound)
		}
	}
}

// TestQuantizeOnGPUs: rows beside 32 columns, and many.
func TestQuantizeOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		checked := hip.Check(d)
		rng := rand.New(rand.NewPCG(20, 50))
		var q QuantizedRows
		for _, cols := range []int{1, 31, 32, 33, 96, 144, 1040} {
			for _, rows := range []int{1, 3, 17} {
				x := randomFloats(rng, rows*cols)
				for i := range x {
					x[i] *= float32(math.Ldexp(1, rng.IntN(20)-10))
				}
				x[0], x[len(x)/2] = float32(math.NaN()), 0
				p, err := hip.Upload(checked, x)
				require.NoError(t, err)
				require.NoError(t, q.Quantize(checked, p, rows, cols), "%d rows of %d", rows, cols)
				require.NoError(t, checked.Free(p))
			}
		}
		require.NoError(t, q.Free(checked))
		require.Zero(t, q)
	})
}
