package weights

import (
	"encoding/binary"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// TestFP4Codes: all 16 codes with all 256 scales, in either nibble, NaN, subnormals and
// overflow among them, are what their closed forms round to.
func TestFP4Codes(t *testing.T) {
	for scale := range 256 {
		for code := range 16 {
			v := minifloat(code>>3, code>>1&3, float64(code&1)/2, 1)
			var two [2]float32
			power := math.Ldexp(1, scale-127)
			if scale == 255 {
				power = math.NaN()
			}
			MXFP4.Decode(two[:], []byte{byte(code | code<<4)}, []byte{byte(scale)})
			requireSameFloat(t, v*power, two[0], "MXFP4 code %d, scale %d", code, scale)
			requireSameFloat(t, v*power, two[1], "MXFP4 code %d, scale %d", code, scale)
			NVFP4.Decode(two[:], []byte{byte(code | code<<4)}, []byte{byte(scale)})
			requireSameFloat(t, v*e4m3Value(byte(scale)), two[0], "NVFP4 code %d, scale %#x", code, scale)
			requireSameFloat(t, v*e4m3Value(byte(scale)), two[1], "NVFP4 code %d, scale %#x", code, scale)
		}
	}
}

// TestFP4Golden decodes the tables of the reference data.
func TestFP4Golden(t *testing.T) {
	file, err := safetensors.Open(os.DirFS(hiptest.Shared(t, "golden", "formats")), "fp4.safetensors")
	require.NoError(t, err)
	defer file.Close()
	read := func(name string) []byte {
		tensor, ok := file.Tensor(name)
		require.True(t, ok, name)
		raw := make([]byte, tensor.Size())
		_, err := tensor.ReadAt(raw, 0)
		require.NoError(t, err)
		return raw
	}
	floats := func(name string) []float32 {
		raw := read(name)
		values := make([]float32, len(raw)/4)
		F32.Decode(values, raw, nil)
		return values
	}
	for i, code := range read("e2m1.codes") {
		require.Equal(t, math.Float32bits(floats("e2m1.values")[i]), math.Float32bits(e2m1[code]))
	}
	for _, c := range []struct {
		format               Format
		prefix, values       string
		global               string
		divides              bool
		scalesOfRow, columns int
	}{
		{MXFP4, "mxfp4", "mxfp4.values", "", false, 3, 96},
		{NVFP4, "nvfp4", "nvfp4.values", "nvfp4.weight_global_scale", true, 6, 96},
		{NVFP4, "nvfp4", "nvfp4.values_2", "nvfp4.weight_scale_2", false, 6, 96},
	} {
		of := one
		if c.global != "" {
			tensor, _ := file.Tensor(c.global)
			of, err = readGlobal(tensor, c.divides)
			require.NoError(t, err)
		}
		data, scale, want := read(c.prefix+".weight_packed"), read(c.prefix+".weight_scale"), floats(c.values)
		row := make([]float32, c.columns)
		for r := range 8 {
			c.format.Decode(row, data[48*r:], scale[c.scalesOfRow*r:])
			of.scale(row)
			for i, v := range row {
				require.Equal(t, math.Float32bits(want[c.columns*r+i]), math.Float32bits(v), "%s row %d, column %d", c.values, r, i)
			}
		}
	}
}

// TestEncodeMXFP4: what the format can hold comes back as it is, and anything else as the
// nearest that its scale has.
func TestEncodeMXFP4(t *testing.T) {
	for scale := range 253 {
		values := make([]float32, 16)
		for code := range values {
			values[code] = e2m1[code] * valueOfE8M0(byte(scale))
		}
		require.Equal(t, values, encode(MXFP4, values).values, "scale %d", scale)
	}
	for v, want := range map[float64]byte{0: 0, 0.25: 0, 0.26: 1, 0.75: 2, 1.25: 2, 1.75: 4, 2.5: 4, 3.5: 6, 5: 6, 5.1: 7, 100: 7, -2.6: 13, math.Copysign(0, -1): 8} {
		require.Equal(t, want, nearestE2M1(v), "%g", v)
	}
	for _, bad := range []float32{inf, -inf, float32(math.NaN())} {
		got := encode(MXFP4, append(make([]float32, 33), bad))
		require.Equal(t, float32(0), got.values[0])
		require.True(t, got.values[33] != got.values[33] && got.values[32] != got.values[32], "a block with NaN is NaN")
	}
}

// fourBit gives w1 of experts one format of four bits, and w2 the other.
func fourBit(tensor string) Format {
	switch {
	case strings.Contains(tensor, ".w1."):
		return NVFP4
	case strings.Contains(tensor, ".w2."):
		return MXFP4
	}
	return mixed(tensor)
}

// TestFP4Faults: what is wrong with a matrix of four bits is said of its tensor.
func TestFP4Faults(t *testing.T) {
	const w1, w2 = moeTensor + "experts.0.w1.", moeTensor + "experts.0.w2."
	number := func(v float64) part {
		return part{w1 + "weight_global_scale", safetensors.F32, []int{1}, string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))))}
	}
	set := func(v float64) func(*synthetic) {
		return change(w1+"weight_global_scale", func(p *part) { *p = number(v) })
	}
	for _, f := range []fault{
		{"weight not packed", change(w2+"weight", func(p *part) { *p = zeros(p.name, safetensors.U8, 64, 32) }), w2 + "weight", ruleWrongShape, []string{"got [64 32], want [64 16]"}},
		{"no scale", remove(w2 + "weight_scale_inv"), w2 + "weight", ruleMissingScale, nil},
		{"scale of another shape", change(w1+"weight_scale_inv", func(p *part) { *p = zeros(p.name, p.dtype, 32, 2) }), w1 + "weight_scale_inv", ruleWrongShape, []string{"got [32 2], want [32 4]"}},
		{"scale of another dtype", change(w2+"weight_scale_inv", func(p *part) { *p = zeros(p.name, safetensors.F32, 64, 1) }), w2 + "weight", ruleWrongDtype, []string{"got U8 with F32 scales", "want U8, F8_E8M0 or F8_E4M3 scales"}},
		{"scale given twice", add(zeros(w2+"weight_scale", safetensors.U8, 64, 1)), w2 + "weight_scale", ruleLoadedTwice, nil},
		{"weight given twice", add(zeros(w2+"weight_packed", safetensors.U8, 64, 16)), w2 + "weight", ruleLoadedTwice, []string{"also "}},
		{"no global scale", remove(w1 + "weight_global_scale"), w1 + "weight", ruleMissingGlobal, []string{"weight_global_scale or a weight_scale_2"}},
		{"both global scales", add(zeros(w1+"weight_scale_2", safetensors.F32)), w1 + "weight_", ruleLoadedTwice, []string{"also "}},
		{"global scale of MXFP4", add(zeros(w2+"weight_scale_2", safetensors.F32)), w2 + "weight_scale_2", ruleStrayScale, []string{"beside MXFP4"}},
		{"global scale of two", change(w1+"weight_global_scale", func(p *part) { *p = zeros(p.name, safetensors.F32, 2) }), w1 + "weight_global_scale", ruleWrongShape, []string{"got [2], want [] or [1]"}},
		{"global scale of bfloat16", change(w1+"weight_global_scale", func(p *part) { *p = zeros(p.name, safetensors.BF16, 1) }), w1 + "weight_global_scale", ruleWrongDtype, []string{"got BF16, want F32"}},
		{"global scale of zero", set(0), w1 + "weight_global_scale", ruleBadGlobal, []string{"got 0, want a positive finite number"}},
		{"global scale below zero", set(-2), w1 + "weight_global_scale", ruleBadGlobal, []string{"got -2"}},
		{"global scale of NaN", set(math.NaN()), w1 + "weight_global_scale", ruleBadGlobal, []string{"got NaN"}},
		{"global scale of infinity", set(math.Inf(1)), w1 + "weight_global_scale", ruleBadGlobal, []string{"got +Inf"}},
		{"input scale of another format", add(zeros(moeTensor+"experts.0.w3.input_scale", safetensors.F32)), moeTensor + "experts.0.w3.input_scale", ruleUnexpected, []string{"beside F32"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := synthesize(headOf(t, smallHead, Parallel{}), fourBit)
			f.do(s)
			_, err := planOf(t, s)
			problems := auditOf(t, err)
			require.Len(t, problems, 1, "%v", err)
			require.ErrorIs(t, err, f.rule)
			for _, text := range append(f.contains, f.tensor) {
				require.ErrorContains(t, err, text)
			}
		})
	}
	s := synthesize(headOf(t, smallHead, Parallel{}), fourBit)
	add(zeros(w1+"input_global_scale", safetensors.F32, 1))(s)
	add(zeros(moeTensor+"experts.1.w1.input_scale", safetensors.F32))(s)
	_, err := planOf(t, s)
	require.NoError(t, err, "scales of activations are not used")
}

// TestFP4Values: a scale of NaN is found by its tensor; all codes zero, or all scales of
// NVFP4, is a tensor of zeros.
func TestFP4Values(t *testing.T) {
	const w1, w2 = moeTensor + "experts.0.w1.", moeTensor + "experts.0.w2."
	fill := func(tensor string, code byte, n int) func(*synthetic) {
		return change(tensor, func(p *part) { p.data = strings.Repeat(string([]byte{code}), n) + p.data[n:] })
	}
	for _, f := range []fault{
		{"NaN of MXFP4", fill(w2+"weight_scale_inv", 255, 1), w2 + "weight_scale_inv", ruleNotFinite, nil},
		{"NaN of NVFP4", fill(w1+"weight_scale_inv", 0x7f, 1), w1 + "weight_scale_inv", ruleNotFinite, nil},
		{"negative NaN of NVFP4", fill(w1+"weight_scale_inv", 0xff, 1), w1 + "weight_scale_inv", ruleNotFinite, nil},
		{"codes of zero", fill(w2+"weight", 0x80, 64*16), w2 + "weight", ruleZero, nil},
		{"scales of zero", fill(w1+"weight_scale_inv", 0, 32*4), w1 + "weight", ruleZero, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			s := synthesize(headOf(t, smallHead, Parallel{}), fourBit)
			f.do(s)
			plan, err := planOf(t, s)
			require.NoError(t, err)
			_, err = plan.CheckWeights(t.Context(), nil)
			require.ErrorIs(t, err, f.rule)
			require.ErrorContains(t, err, f.tensor)
		})
	}
}
