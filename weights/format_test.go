package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// requireSameFloat wants the same bits, or two NaNs.
func requireSameFloat(t *testing.T, want float64, got float32, msg ...any) {
	t.Helper()
	if math.IsNaN(want) {
		require.True(t, got != got, msg...)
		return
	}
	require.Equal(t, math.Float32bits(float32(want)), math.Float32bits(got), msg...)
}

func TestE4M3(t *testing.T) {
	for code := range 256 {
		requireSameFloat(t, e4m3Value(byte(code)), e4m3[byte(code)], "code %#x", code)
	}
	for code, want := range map[byte]float32{0x00: 0, 0x01: 0x1p-9, 0x07: 7 * 0x1p-9, 0x08: 0x1p-6, 0x38: 1, 0xb8: -1, 0x7e: 448, 0xfe: -448} {
		require.Equal(t, want, e4m3[code], "code %#x", code)
	}
	require.True(t, math.Signbit(float64(e4m3[0x80])), "minus zero")
}

func TestE8M0(t *testing.T) {
	for code := range 255 {
		requireSameFloat(t, math.Ldexp(1, code-127), valueOfE8M0(byte(code)), "code %d", code)
	}
	requireSameFloat(t, math.NaN(), valueOfE8M0(255))
}

func TestF16(t *testing.T) {
	data := make([]byte, 2*1<<16)
	for code := range 1 << 16 {
		binary.LittleEndian.PutUint16(data[2*code:], uint16(code))
	}
	got := make([]float32, 1<<16)
	F16.Decode(got, data, nil)
	for code, v := range got {
		requireSameFloat(t, half(uint16(code)), v, "code %#04x", code)
		if v != v {
			require.Equal(t, uint32(code&0x3ff)<<13, math.Float32bits(v)&0x7fffff, "payload of NaN %#04x", code)
		}
		require.Equal(t, code >= 1<<15, math.Signbit(float64(v)), "sign of %#04x", code)
	}
}

func TestBF16(t *testing.T) {
	data := make([]byte, 2*1<<16)
	for code := range 1 << 16 {
		binary.LittleEndian.PutUint16(data[2*code:], uint16(code))
	}
	got := make([]float32, 1<<16)
	BF16.Decode(got, data, nil)
	for code, v := range got {
		require.Equal(t, uint32(code)<<16, math.Float32bits(v), "code %#04x", code)
	}
}

// TestDecode compares rows of every length around the blocks, at odd addresses,
// with the closed forms, and proves that nothing beyond is read or written.
func TestDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, f := range allFormats {
		for _, cols := range []int{1, 2, 3, 5, 31, 32, 33, 39, 95, 127, 128, 129, 300} {
			t.Run(fmt.Sprintf("%v/%d", f, cols), func(t *testing.T) {
				s := newStored(r, f, 1, cols)
				odd := func(b []byte) []byte { // exactly as long as it has to be
					b = append([]byte{0xff}, b...)
					return b[1:len(b):len(b)]
				}
				got := make([]float32, cols+1)
				got[cols] = -7
				f.Decode(got[:cols], odd(s.data), odd(s.scale))
				s.of.scale(got[:cols])
				require.Equal(t, s.values, got[:cols])
				require.Equal(t, float32(-7), got[cols])
			})
		}
	}
}

// TestDecodeEdgesOfRange decodes what leaves the normal range of float32.
func TestDecodeEdgesOfRange(t *testing.T) {
	tests := []struct {
		name        string
		format      Format
		data, scale []byte
		want        float64
	}{
		{"smallest subnormal", MXFP8, []byte{0x01}, []byte{0}, 0x1p-136},
		{"largest finite", MXFP8, []byte{0x78}, []byte{246}, 0x1p127},
		{"overflow", MXFP8, []byte{0x7e}, []byte{254}, math.Inf(1)},
		{"NaN scale", MXFP8, []byte{0x00}, []byte{255}, math.NaN()},
		{"NaN weight", MXFP8, []byte{0xff}, []byte{127}, math.NaN()},
		{"rounded once", FP8F32, []byte{0x3f}, binary.LittleEndian.AppendUint32(nil, math.Float32bits(1+0x1p-23)), 1.875 + 0x1p-22},
		{"NaN F32 scale", FP8F32, []byte{0x38}, []byte{0, 0, 0xc0, 0x7f}, math.NaN()},
		{"INT8 bounds", INT8, []byte{0x80}, []byte{0x80, 0x40}, -512},
		{"INT8 subnormal", INT8, []byte{0x7f}, []byte{1, 0}, 127 * 0x1p-133},
		{"INT8 NaN scale", INT8, []byte{0}, []byte{0xc0, 0x7f}, math.NaN()},
		{"infinite BF16 scale", fp8BF16, []byte{0xb8}, []byte{0x80, 0x7f}, math.Inf(-1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got [1]float32
			test.format.Decode(got[:], test.data, test.scale)
			requireSameFloat(t, test.want, got[0])
		})
	}
}

func TestFormatTable(t *testing.T) {
	tests := []struct {
		format               Format
		name                 string
		rowBytes             int64 // of 33 columns
		scaleRows, scaleCols int   // of 129 × 33
		scaleBytes           int64
	}{
		{F32, "F32", 132, 0, 0, 0},
		{F16, "F16", 66, 0, 0, 0},
		{BF16, "BF16", 66, 0, 0, 0},
		{MXFP8, "MXFP8", 33, 129, 2, 1},
		{FP8F32, "FP8 128x128 (F32 scales)", 33, 2, 1, 4},
		{fp8BF16, "FP8 128x128 (BF16 scales)", 33, 2, 1, 2},
		{INT8, "INT8", 33, 129, 2, 2},
		{MXFP4, "MXFP4", 17, 129, 2, 1},
		{NVFP4, "NVFP4", 17, 129, 3, 1},
	}
	require.Len(t, tests, int(endFormat-1))
	for i, test := range tests {
		f := test.format
		require.Equal(t, allFormats[i], f)
		require.True(t, f.valid())
		require.Equal(t, test.name, f.String())
		require.Equal(t, test.rowBytes, f.rowBytes(33))
		rows, cols := f.scaleShape(129, 33)
		require.Equal(t, [2]int{test.scaleRows, test.scaleCols}, [2]int{rows, cols}, test.name)
		require.Equal(t, rows > 0, f.quantized())
		if f.quantized() {
			require.Equal(t, test.scaleBytes, f.scaleBytes())
			for _, scale := range formats[f].scales {
				require.Equal(t, test.scaleBytes, int64(scale.Bits()/8), "all dtypes of one format's scales are as wide")
			}
		}
	}
	require.Equal(t, interval{0, 2}, FP8F32.scaleRows(interval{127, 129}))
	require.Equal(t, interval{1, 2}, FP8F32.scaleRows(interval{128, 256}))
	require.Equal(t, interval{127, 129}, MXFP8.scaleRows(interval{127, 129}))
	for _, f := range []Format{0, endFormat, -1} {
		require.False(t, f.valid())
		require.Equal(t, fmt.Sprintf("Format(%d)", int32(f)), f.String())
	}
}

// TestGoldenFormatValues compares with values computed elsewhere, bit for bit.
func TestGoldenFormatValues(t *testing.T) {
	file, err := safetensors.Open(os.DirFS(hiptest.Shared(t, "golden", "formats")), "formats.safetensors")
	require.NoError(t, err)
	defer file.Close()
	bytesOf := func(name string) []byte {
		tensor, ok := file.Tensor(name)
		require.True(t, ok, name)
		data := make([]byte, tensor.Size())
		_, err := tensor.ReadAt(data, 0)
		require.NoError(t, err)
		return data
	}
	floats := func(name string) []float32 {
		raw := bytesOf(name)
		values := make([]float32, len(raw)/4)
		F32.Decode(values, raw, nil)
		return values
	}
	for i, want := range floats("e4m3.values") {
		requireSameFloat(t, float64(want), e4m3[bytesOf("e4m3.codes")[i]], "e4m3 %d", i)
	}
	for i, want := range floats("e8m0.values") {
		requireSameFloat(t, float64(want), valueOfE8M0(bytesOf("e8m0.codes")[i]), "e8m0 %d", i)
	}
	bits, want := bytesOf("bf16.bits"), floats("bf16.values")
	got := make([]float32, len(want))
	BF16.Decode(got, bits, nil)
	for i := range want {
		requireSameFloat(t, float64(want[i]), got[i], "bf16 %d", i)
		if want[i] == want[i] {
			require.Equal(t, hip.BF16(binary.LittleEndian.Uint16(bits[2*i:])), hip.ToBF16(got[i]), "bf16 %d, back", i)
		}
	}
	weight, scale, want := bytesOf("mxfp8.weight"), bytesOf("mxfp8.weight_scale_inv"), floats("mxfp8.values")
	require.Len(t, want, 8*96)
	row := make([]float32, 96)
	for r := range 8 {
		MXFP8.Decode(row, weight[96*r:], scale[3*r:])
		for c, v := range row {
			requireSameFloat(t, float64(want[96*r+c]), v, "mxfp8 [%d, %d]", r, c)
		}
	}
}
