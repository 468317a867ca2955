package synthetic

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// FuzzReadAtInPieces reads a range of a file at once and in pieces.
func FuzzReadAtInPieces(f *testing.F) {
	f.Add(uint64(0), int64(0), uint16(1000), uint8(1))
	f.Add(uint64(1), int64(4093), uint16(5000), uint8(7))
	f.Add(uint64(2), int64(20_001), uint16(9), uint8(8))
	f.Fuzz(func(t *testing.T, seed uint64, off int64, length uint16, piece uint8) {
		c := plan(t, small(), Options{Seed: seed, ShardSize: 60_000})
		file := c.Files()[seed%uint64(len(c.Files()))]
		off = int64(uint64(off) % uint64(file.Size()))
		whole := make([]byte, min(int64(length), file.Size()-off))
		n, err := file.ReadAt(whole, off)
		require.NoError(t, err)
		require.Equal(t, len(whole), n)
		for at := 0; at < len(whole); {
			part := make([]byte, min(int(piece)+1, len(whole)-at))
			_, err := file.ReadAt(part, off+int64(at))
			require.NoError(t, err)
			require.Equal(t, whole[at:at+len(part)], part, "at %d", at)
			at += len(part)
		}
	})
}

// moments returns mean and standard deviation.
func moments(values []float32) (mean, deviation float64) {
	for _, v := range values {
		mean += float64(v) / float64(len(values))
	}
	for _, v := range values {
		d := float64(v) - mean
		deviation += d * d / float64(len(values))
	}
	return mean, math.Sqrt(deviation)
}

func TestNormal(t *testing.T) {
	const rows, cols = 256, 1024
	data := func(s stream, size int) []byte {
		p := make([]byte, size)
		s.key = streamKey(1, t.Name())
		s.readAt(p, 0)
		return p
	}
	for _, deviation := range []float64{1e-30, 0.0127, 1, 3.3, 1e30} {
		codes, scales, err := mxfp8Normal(deviation)
		require.NoError(t, err)
		for _, c := range []struct {
			format weights.Format
			data   []byte
			scale  []byte
		}{
			{weights.F32, data(stream{singles: f32Normal(deviation)}, 4*rows*cols), nil},
			{weights.BF16, data(stream{halves: bf16Normal(deviation)}, 2*rows*cols), nil},
			{weights.MXFP8, data(stream{bytes: codes}, rows*cols), data(stream{bytes: scales}, rows*cols/32)},
		} {
			values := make([]float32, rows*cols)
			c.format.Decode(values, c.data, c.scale)
			mean, got := moments(values)
			require.InDelta(t, 0, mean/deviation, 0.01, "%v of %g", c.format, deviation)
			require.InDelta(t, 1, got/deviation, 0.025, "%v of %g", c.format, deviation)
		}
	}
}

func TestNormalInFourBits(t *testing.T) {
	const rows, cols = 256, 1024
	data := func(bytes *[256]uint8, size int) []byte {
		p, s := make([]byte, size), stream{key: streamKey(1, t.Name()), bytes: bytes}
		s.readAt(p, 0)
		return p
	}
	for _, format := range []weights.Format{weights.MXFP4, weights.NVFP4} {
		for _, deviation := range []float64{1e-30, 0.0127, 1, 3.3, 1e30} {
			tables, err := fp4Normal(format, deviation)
			require.NoError(t, err)
			values := make([]float32, rows*cols)
			format.Decode(values, data(tables.codes, rows*cols/2), data(tables.scales, rows*cols/16))
			mean, got := moments(values)
			require.InDelta(t, 0, mean/got, 0.01, "%v of %g", format, deviation)
			if format == weights.NVFP4 {
				got /= float64(math.Float32frombits(tables.global[4095]))
			}
			require.InDelta(t, 1, got/deviation, 0.025, "%v of %g", format, deviation)
		}
		for _, deviation := range []float64{0, 1e-60, 1e60, math.Inf(1), math.NaN()} {
			_, err := fp4Normal(format, deviation)
			require.ErrorContains(t, err, "out of the range of "+format.String(), "%g", deviation)
		}
	}
}

func TestMXFP8CodesAreNumbers(t *testing.T) {
	for exponent := -117; exponent < 120; exponent++ {
		codes, scales, err := mxfp8Normal(math.Ldexp(1.3, exponent))
		require.NoError(t, err)
		widest := float32(0)
		for i := range codes {
			value := e4m3(codes[i])
			require.False(t, math.IsNaN(float64(value)))
			require.NotContains(t, []uint8{0, 255}, scales[i])
			widest = max(widest, value)
		}
		require.Greater(t, widest, float32(200), "the range of e4m3 is used")
	}
	for _, deviation := range []float64{0, 1e-37, 1e38, math.Inf(1), math.NaN()} {
		_, _, err := mxfp8Normal(deviation)
		require.ErrorContains(t, err, "out of the range", "%g", deviation)
	}
}

func TestToE4M3(t *testing.T) {
	for code := range 256 {
		if value := e4m3(uint8(code)); value == value && value != 0 {
			require.Equal(t, uint8(code), toE4M3(float64(value)))
		}
	}
	require.EqualValues(t, 0x7e, toE4M3(1e9))
	require.EqualValues(t, 0xfe, toE4M3(-449))
}

func TestQuantile(t *testing.T) {
	require.InDelta(t, -2.885635, quantile(0, 256), 1e-5)
	require.InDelta(t, 0.6744898, quantile(1, 2), 1e-6) // the upper quartile
	for i := range 256 {
		require.InDelta(t, -quantile(255-i, 256), quantile(i, 256), 1e-12)
	}
	require.Equal(t, hip.ToBF16(float32(quantile(9, 4096)/8)), hip.BF16(bf16Normal(0.125)[9]))
}
