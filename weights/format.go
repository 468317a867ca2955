package weights

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// Format says how the values of a matrix are stored. The zero Format is none.
type Format int32

// The formats that products read, each without conversion at load.
const (
	F32       Format = iota + 1
	F16              // IEEE binary16
	BF16             // upper half of a float32
	MXFP8            // e4m3 with one power-of-two scale per row and 32 columns
	FP8F32           // e4m3 with one float32 scale per 128 × 128 block
	FP8BF16          // e4m3 with one bfloat16 scale per 128 × 128 block
	endFormat        // number of formats + 1
)

// formats has a row per format. A weight tensor of dtype weight, with a scale
// tensor of one of the dtypes scales beside it, is stored in the format.
//
// MXFP8, and likewise FP8 with blocks of 128 rows and float scales:
//
//	weight  [rows, cols]            e4m3 bytes, row-major
//	scale   [rows, ceil(cols/32)]   bytes s, standing for 2^(s−127); 255 is NaN
//	value   e4m3(weight[r][c]) · scale[r][c/32]
//
// A value is rounded once to float32, which changes none but those beyond the
// range of float32.
var formats = [endFormat]struct {
	name      string
	weight    Dtype
	scales    []Dtype
	blockRows int // rows and columns of weights that share a scale; 0: no scales
	blockCols int
	decode    func(dst []float32, data, scale []byte)
}{
	F32:     {name: "F32", weight: DtypeF32, decode: decodeF32},
	F16:     {name: "F16", weight: DtypeF16, decode: decodeF16},
	BF16:    {name: "BF16", weight: DtypeBF16, decode: decodeBF16},
	MXFP8:   {"MXFP8", DtypeF8E4M3, []Dtype{DtypeU8, DtypeF8E8M0}, 1, 32, decodeMXFP8},
	FP8F32:  {"FP8 128x128 (F32 scales)", DtypeF8E4M3, []Dtype{DtypeF32}, 128, 128, decodeFP8F32},
	FP8BF16: {"FP8 128x128 (BF16 scales)", DtypeF8E4M3, []Dtype{DtypeBF16}, 128, 128, decodeFP8BF16},
}

// Valid reports whether f is one of the formats.
func (f Format) Valid() bool { return f > 0 && f < endFormat }

// String returns the name of the format.
func (f Format) String() string {
	if !f.Valid() {
		return fmt.Sprintf("Format(%d)", int32(f))
	}
	return formats[f].name
}

// RowBytes returns the bytes of cols stored values, without scales.
func (f Format) RowBytes(cols int) int64 { return int64(cols) * int64(formats[f].weight.Bits()/8) }

// Quantized tells whether the format has scales.
func (f Format) Quantized() bool { return formats[f].blockCols > 0 }

// ScaleShape returns the shape of the scale tensor beside a weight of that
// shape; 0, 0 where the format has none.
func (f Format) ScaleShape(rows, cols int) (scaleRows, scaleCols int) {
	if !f.Quantized() {
		return 0, 0
	}
	return ceilDiv(rows, formats[f].blockRows), ceilDiv(cols, formats[f].blockCols)
}

// scaleBytes is the size of one stored scale.
func (f Format) scaleBytes() int64 { return int64(formats[f].scales[0].Bits() / 8) }

// Decode writes the values of one row. data holds len(dst) stored values, scale
// the row's scales, if the format has any.
func (f Format) Decode(dst []float32, data, scale []byte) { formats[f].decode(dst, data, scale) }

func ceilDiv(a, b int) int { return a/b + min(a%b, 1) }

func decodeF32(dst []float32, data, _ []byte) {
	data = data[:4*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
}

func decodeF16(dst []float32, data, _ []byte) {
	data = data[:2*len(dst)]
	for i := range dst {
		dst[i] = halfToFloat32(binary.LittleEndian.Uint16(data[2*i:]))
	}
}

func decodeBF16(dst []float32, data, _ []byte) {
	data = data[:2*len(dst)]
	for i := range dst {
		dst[i] = hip.BF16(binary.LittleEndian.Uint16(data[2*i:])).Float32()
	}
}

func decodeMXFP8(dst []float32, data, scale []byte) {
	decodeE4M3(dst, data, 32, func(block int) float32 { return E8M0(scale[block]) })
}

func decodeFP8F32(dst []float32, data, scale []byte) {
	decodeE4M3(dst, data, 128, func(block int) float32 {
		return math.Float32frombits(binary.LittleEndian.Uint32(scale[4*block:]))
	})
}

func decodeFP8BF16(dst []float32, data, scale []byte) {
	decodeE4M3(dst, data, 128, func(block int) float32 {
		return hip.BF16(binary.LittleEndian.Uint16(scale[2*block:])).Float32()
	})
}

func decodeE4M3(dst []float32, data []byte, block int, scale func(block int) float32) {
	data = data[:len(dst)]
	for first := 0; first < len(dst); first += block {
		s := scale(first / block)
		for i := first; i < min(first+block, len(dst)); i++ {
			dst[i] = e4m3[data[i]] * s
		}
	}
}

// e4m3 holds the values of the 256 codes of F8_E4M3.
var e4m3 = e4m3Values()

// E4M3 returns the value of an F8_E4M3 code: sign, 4 exponent bits with bias 7,
// 3 mantissa bits; no infinities, 0x7F and 0xFF are NaN (OCP OFP8, section 5.2).
func E4M3(code byte) float32 { return e4m3[code] }

func e4m3Values() (values [256]float32) {
	for code := range values {
		exponent, mantissa := code>>3&15, float64(code&7)
		v := math.Ldexp(mantissa, -9)
		if exponent > 0 {
			v = math.Ldexp(8+mantissa, exponent-10)
		}
		if code&0x7f == 0x7f {
			v = math.NaN()
		}
		if code&0x80 != 0 {
			v = math.Copysign(v, -1)
		}
		values[code] = float32(v)
	}
	return values
}

// E8M0 returns the value of an F8_E8M0 code: 2^(code−127), and NaN for 255
// (OCP MX, section 5.4.1). Code 0 is the float32 subnormal 2^−127.
func E8M0(code byte) float32 {
	switch code {
	case 0:
		return math.Float32frombits(1 << 22)
	case 255:
		return float32(math.NaN())
	}
	return math.Float32frombits(uint32(code) << 23)
}

// halfToFloat32 widens an IEEE binary16, exactly.
func halfToFloat32(h uint16) float32 {
	sign, exponent, mantissa := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero and subnormals: mantissa · 2^−24
		v := float32(mantissa) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 0x7f800000 | mantissa<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | mantissa<<13)
}
