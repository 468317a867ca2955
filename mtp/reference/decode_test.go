package reference

import (
	"encoding/binary"
	"math"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

func TestDecodeClosedForms(t *testing.T) {
	require.Equal(t, 1.0, bf16(0x3f80))
	require.Equal(t, -2.5, bf16(0xc020))
	require.Equal(t, 1.0, f16(0x3c00))
	require.Equal(t, -65504.0, f16(0xfbff), "largest finite")
	require.Equal(t, math.Ldexp(1, -24), f16(0x0001), "smallest subnormal")
	require.Equal(t, math.Ldexp(1, -14), f16(0x0400), "smallest normal")
	require.True(t, math.IsInf(f16(0xfc00), -1))
	require.True(t, math.IsNaN(f16(0x7c01)))
	require.Equal(t, 448.0, e4m3(0x7e), "largest finite")
	require.Equal(t, math.Ldexp(1, -9), e4m3(0x01), "smallest subnormal")
	require.Equal(t, -1.125, e4m3(0xb9))
	require.True(t, math.IsNaN(e4m3(0x7f)) && math.IsNaN(e4m3(0xff)))
	require.True(t, math.Signbit(e4m3(0x80)))
	require.Equal(t, 1.0, e8m0(127))
	require.Equal(t, math.Ldexp(1, -127), e8m0(0))
	require.Equal(t, math.Ldexp(1, 127), e8m0(254))
	require.True(t, math.IsNaN(e8m0(255)))
}

// A code and its successor are adjacent: decoding is strictly monotonic in the magnitude bits.
func TestDecodeMonotonic(t *testing.T) {
	for code := range byte(0x7e) {
		require.Less(t, e4m3(code), e4m3(code+1), "E4M3 %#x", code)
	}
	for bits := range uint16(0x7c00) {
		require.Less(t, f16(bits), f16(bits+1), "F16 %#x", bits)
	}
}

// openTensors returns tensors as the checkpoint reader gives them.
func openTensors(t *testing.T, tensors map[string]stored) *safetensors.File {
	t.Helper()
	file, err := safetensors.Open(fstest.MapFS{"t.safetensors": {Data: fileOf(t, tensors)}}, "t.safetensors")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	return file
}

func TestScaled(t *testing.T) {
	const rows, cols = 130, 259 // partial blocks at both ends
	bits16 := func(values ...float32) (data []byte) {
		for _, v := range values {
			data = binary.LittleEndian.AppendUint16(data, uint16(math.Float32bits(v)>>16))
		}
		return data
	}
	mx := make([]byte, rows*9)
	for i := range mx {
		mx[i] = byte(100 + i%50)
	}
	mxScale := func(r, c int) float64 { return math.Ldexp(1, 100+(r*9+c/32)%50-127) }
	square := []float32{1, 2, 3, 4, 5, 6}
	squareScale := func(r, c int) float64 { return float64(square[r/128*3+c/128]) }
	tests := []struct {
		name  string
		scale stored
		want  func(r, c int) float64
	}{
		{"U8", stored{"U8", []int{rows, 9}, mx}, mxScale},
		{"F8_E8M0", stored{"F8_E8M0", []int{rows, 9}, mx}, mxScale},
		{"F32", f32(square, 2, 3), squareScale},
		{"BF16", stored{"BF16", []int{2, 3}, bits16(square...)}, squareScale},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			scale, ok := openTensors(t, map[string]stored{"scale": test.scale}).Tensor("scale")
			require.True(t, ok)
			values := make([]float64, rows*cols)
			for i := range values {
				values[i] = float64(i%7 + 1)
			}
			got, err := scaled(values, rows, cols, scale)
			require.NoError(t, err)
			for i := range got {
				require.Equal(t, float64(i%7+1)*test.want(i/cols, i%cols), got[i], "[%d, %d]", i/cols, i%cols)
			}
			_, err = scaled(values, rows, cols+128, scale)
			require.ErrorAs(t, err, new(*tensorError))
		})
	}
}
