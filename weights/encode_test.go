package weights

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// encoded is a row that was encoded, and decoded again.
type encoded struct {
	data, scale []byte
	values      []float32
}

// encode encodes a row into exactly as much memory as it takes.
func encode(f Format, values []float32) encoded {
	e := encoded{make([]byte, f.rowBytes(len(values))), make([]byte, f.scaleRowBytes(len(values))), make([]float32, len(values))}
	formats[f].encode(e.data, e.scale, values)
	f.Decode(e.values, e.data, e.scale)
	return e
}

var inf = float32(math.Inf(1))

// TestEncodeExactly: what a format can hold comes back as it is, at every scale.
func TestEncodeExactly(t *testing.T) {
	t.Run("MXFP8", func(t *testing.T) {
		for scale := range 247 {
			values := make([]float32, 0, 254)
			for code := range 256 {
				if v := e4m3[byte(code)] * valueOfE8M0(byte(scale)); v == v {
					values = append(values, v)
				}
			}
			for at := 0; at < len(values); at += 32 { // blocks without the largest may take another scale
				block := values[at:min(at+32, len(values))]
				require.Equal(t, block, encode(MXFP8, block).values, "scale %d", scale)
			}
			require.Equal(t, values, encode(MXFP8, values).values, "scale %d", scale)
		}
	})
	t.Run("INT8", func(t *testing.T) {
		// Every bfloat16 of which 127 times fits, subnormals among them.
		for bits := range uint16(0x7c01) {
			scale := hip.BF16(bits).Float32()
			values := make([]float32, 32)
			for i := range values {
				values[i] = scale * float32((i*8+7)*(1-i&1*2)%128)
			}
			values[3] = -127 * scale
			require.Equal(t, values, encode(INT8, values).values, "scale %#x", bits)
		}
	})
	for _, f := range []Format{MXFP8, INT8} {
		for exponent := -126; exponent <= 127; exponent++ {
			for _, v := range []float32{1, -1} {
				power := []float32{float32(math.Ldexp(float64(v), exponent))}
				got := encode(f, power).values
				if f == INT8 { // 127 · bfloat16
					require.InEpsilon(t, power[0], got[0], 0x1p-8)
					continue
				}
				require.Equal(t, power, got)
			}
		}
	}
}

// TestEncodeBlocks: blocks that are special, each between two that are not.
func TestEncodeBlocks(t *testing.T) {
	nan, zero := float32(math.NaN()), float32(math.Copysign(0, -1))
	block := func(values ...float32) []float32 { return append(values, make([]float32, 32-len(values))...) }
	for name, c := range map[string]struct {
		values     []float32
		mx, eight  func(values []float32) []float32 // what comes back
		mxs, scale uint16                           // the scales
	}{
		"zeros":            {block(), same, same, 0, 0},
		"minus zero":       {block(zero), same, func([]float32) []float32 { return block() }, 0, 0},
		"NaN":              {block(1, nan), notNumbers, notNumbers, 255, 0x7fc0},
		"infinity":         {block(inf, 1), notNumbers, notNumbers, 255, 0x7fc0},
		"minus infinity":   {block(1, 2, -inf), notNumbers, notNumbers, 255, 0x7fc0},
		"NaN and infinity": {block(nan, inf), notNumbers, notNumbers, 255, 0x7fc0},
		"least subnormal":  {block(0x1p-149), func([]float32) []float32 { return block() }, func([]float32) []float32 { return block() }, 0, 1},
		"subnormals":       {block(0x1p-133, -0x1p-132), same, same, 0, 1},
		"least of MXFP8":   {block(0x1p-136), same, func([]float32) []float32 { return block() }, 0, 1},
		"largest": {block(math.MaxFloat32), func([]float32) []float32 { return block(0x1.cp127) },
			func([]float32) []float32 { return block(127 * hip.BF16(0x7c01).Float32()) }, 246, 0x7c01},
		"nearer when coarser": {block(500, 3), func([]float32) []float32 { return block(512, 3) },
			func([]float32) []float32 { return block(127*3.9375, 3.9375) }, 128, 0x407c},
	} {
		t.Run(name, func(t *testing.T) {
			plain := block(1, -1)
			row := append(append(append([]float32{}, plain...), c.values...), plain...)
			mx, eight := encode(MXFP8, row), encode(INT8, row)
			require.EqualValues(t, c.mxs, mx.scale[1])
			require.Equal(t, c.scale, binary.LittleEndian.Uint16(eight.scale[2:]))
			for i, want := range c.mx(c.values) {
				requireSameFloat(t, float64(want), mx.values[32+i], "MXFP8 %d", i)
			}
			for i, want := range c.eight(c.values) {
				requireSameFloat(t, float64(want), eight.values[32+i], "INT8 %d", i)
			}
			for _, e := range []encoded{mx, eight} {
				require.Equal(t, e.values[:32], e.values[64:], "the neighbors")
				require.Equal(t, float32(-1), e.values[1]/e.values[0])
			}
		})
	}
}

func same(values []float32) []float32 { return values }

func notNumbers(values []float32) []float32 {
	out := make([]float32, len(values))
	for i := range out {
		out[i] = float32(math.NaN())
	}
	return out
}

// randomRow returns columns of all magnitudes: normal ones, and outliers, of
// which some push the rest into the subnormals of a format.
func randomRow(r *rand.Rand, cols int) []float32 {
	row := randomFloats(r, cols)
	spread := r.Float64() * 12
	for i := range row {
		row[i] *= float32(math.Exp(r.NormFloat64() * spread / 6))
	}
	unit := float32(math.Ldexp(1, r.IntN(200)-100))
	for i := range row {
		row[i] *= unit
	}
	return row
}

// TestEncodeMXFP8IsBest: no other scale has a smaller squared error, and no other
// code of the scale is nearer to a value.
func TestEncodeMXFP8IsBest(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 1))
	blocks := 3000
	if hiptest.RaceDetector {
		blocks = 100
	}
	coarser := 0
	for range blocks {
		values := randomRow(r, 1+r.IntN(32))
		got := encode(MXFP8, values)
		squares := squaredErrorOf(values, got.values)
		for scale := max(int(got.scale[0])-4, 0); scale <= min(int(got.scale[0])+4, 254); scale++ {
			codes := make([]byte, len(values))
			for i, v := range values {
				codes[i] = byte(hip.ToE4M3(float32(float64(v) / float64(valueOfE8M0(byte(scale))))))
			}
			other := make([]float32, len(values))
			MXFP8.Decode(other, codes, []byte{byte(scale)})
			require.LessOrEqual(t, squares, squaredErrorOf(values, other), "scale %d in place of %d: %v", scale, got.scale[0], values)
		}
		for i, v := range values {
			nearest := math.Inf(1)
			for code := range 256 {
				if off := math.Abs(float64(v) - float64(e4m3[byte(code)]*valueOfE8M0(got.scale[0]))); off < nearest {
					nearest = off
				}
			}
			require.Equal(t, nearest, math.Abs(float64(v)-float64(got.values[i])))
		}
		if float64(valueOfE8M0(got.scale[0]))*256 > float64(maxAbs(values)) {
			coarser++
		}
	}
	require.Greater(t, coarser, blocks/50, "both scales are tried")
	require.Less(t, coarser, blocks/2)
}

func squaredErrorOf(want, got []float32) (sum float64) {
	for i, v := range want {
		off := float64(v) - float64(got[i])
		sum += off * off
	}
	return sum
}

// maxAbs returns the largest finite magnitude.
func maxAbs(values []float32) float32 {
	largest := float32(0)
	for _, v := range values {
		if a := float32(math.Abs(float64(v))); a > largest && !math.IsInf(float64(a), 0) {
			largest = a
		}
	}
	return largest
}

// TestEncodeBounds: in rows of every length around the blocks, no value of a
// block is off by more than its format allows, and nothing else is written.
func TestEncodeBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 2))
	for _, cols := range []int{1, 2, 31, 32, 33, 63, 64, 65, 96, 127, 300} {
		for range 40 {
			row := randomRow(r, cols)
			before := append([]float32(nil), row...)
			mx, eight := encode(MXFP8, row), encode(INT8, row)
			require.Equal(t, before, row)
			for first := 0; first < cols; first += 32 {
				end := min(first+32, cols)
				largest := float64(maxAbs(row[first:end]))
				for i := first; i < end; i++ {
					v := float64(row[i])
					// Half a unit of 4 significant bits, or of the least exponent, 2^−9 of
					// a scale that is at most 2^−7 of the largest; 464 … 512 may be clipped.
					bound := max(math.Abs(v)/16, largest*0x1p-7*0x1p-10)
					if math.Abs(v) > largest*7/8 {
						bound = math.Abs(v) / 8
					}
					require.InDelta(t, v, mx.values[i], bound*(1+1e-6), "MXFP8: column %d of %v", i, row)
					require.InDelta(t, v, eight.values[i], largest/254*(1+0x1p-8)*(1+1e-6), "INT8: column %d of %v", i, row)
					require.False(t, row[i]*eight.values[i] < 0 || row[i]*mx.values[i] < 0, "signs")
				}
			}
		}
	}
}
