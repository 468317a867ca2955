package weights

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Format says how the values of a matrix are stored. The zero Format stands for none.
//
//	F32, F16, BF16    as they are
//	MXFP8             e4m3 · 2^(s−127), one scale per row and 32 columns
//	FP8 128x128       e4m3 · s, one float32 or bfloat16 scale per 128 × 128 block
//	MXFP4             e2m1 · 2^(s−127), one scale per row and 32 columns
//	NVFP4             e2m1 · e4m3, one scale per row and 16 columns, · a float32 of the matrix
//	INT8              int8 · s, one bfloat16 scale per row and 32 columns; in no checkpoint
//
// [Format.Decode] rounds once to float32.
type Format int32

// The formats that products read, each without conversion. No checkpoint stores INT8:
// [Matrix.Requantize] makes it.
const (
	F32       Format = iota + 1
	F16              // IEEE binary16
	BF16             // upper half of a float32
	MXFP8            // e4m3 with one power-of-two scale per row and 32 columns
	FP8F32           // e4m3 with one float32 scale per 128 × 128 block; the same with bfloat16 scales has no name
	fp8BF16          // e4m3 with one bfloat16 scale per 128 × 128 block
	INT8             // 8-bit integers with one bfloat16 scale per row and 32 columns
	MXFP4            // e2m1, two a byte, with one power-of-two scale per row and 32 columns
	NVFP4            // e2m1, two a byte, with one e4m3 scale per row and 16 columns, and one float32 for all of it
	endFormat        // number of formats + 1
)

// formats has a row for each format. A tensor is stored in the format if its dtype is
// weight and a scale tensor of one of the dtypes scales lies beside it.
//
// MXFP8, and likewise FP8 with blocks of 128 rows and float scales:
//
//	weight  [rows, cols]            e4m3 bytes, row-major
//	scale   [rows, ceil(cols/32)]   bytes s, standing for 2^(s−127); 255 is NaN
//	value   e4m3(weight[r][c]) · scale[r][c/32]
//
// INT8:
//
//	weight  [rows, cols]            two's complement bytes, row-major
//	scale   [rows, ceil(cols/32)]   bfloat16, little-endian
//	value   weight[r][c] · scale[r][c/32]
//
// MXFP4 and NVFP4, with two codes a byte, the even column in the low nibble:
//
//	weight  [rows, ceil(cols/2)]    codes 0 … 7: 0, 0.5, 1, 1.5, 2, 3, 4, 6; 8 … 15: the same below zero
//	scale   [rows, ceil(cols/32)]   MXFP4: bytes s, standing for 2^(s−127); 255 is NaN
//	scale   [rows, ceil(cols/16)]   NVFP4: e4m3 bytes, whose sign counts; 0x7f and 0xff are NaN
//	value   e2m1(weight[r][c]) · scale[r][c/32], and of NVFP4 also · factor ÷ divisor
//
// A matrix of NVFP4 has a float32 that is one of the two; the other is 1. Products apply it
// to the sum of a row. Scales never go through float16, which does not hold them.
//
// A value is a float32, rounded once. With power-of-two scales rounding changes no value
// within the range of float32, and with INT8 none at all: 15 bits are enough for the
// product.
//
// To add a format, change:
//
//   - weights: the constant and the row of this table, with decode here or in fp4.go; encode.go if drafts
//     may be requantized to it, with the text of requantize.go; the Define in source.go; the
//     text of plan_fit.go, if a tensor of it is not told by its dtypes; lanesOf in values.go
//   - tests: checkpointFormats, allFormats and appendValue in stored_test.go, by which every
//     product runs it, and the tables that these then find too short
//   - kernels: perRow and valueAt in rows.h, a codec in codecs.h, the row's bytes and the
//     switch in multiply.h, the switch in stream.h; tiles.h, warpgroup.h and inPieces in
//     product.go if its values are exact in bfloat16
//   - assembly, which may be left out, since product_host.go then decodes rows:
//     hip/internal/asmgen/weights (format.go, dot.go, tiledecoder.go), go generate, and the
//     tables of simd_amd64.go
//   - mtp: config_quant.go, options.go; mtp/reference: decode.go, head.go, and golden cases
//   - docs: Format, mtp/GUIDE.md ("Numerics"), README.md, .github/CHANGELOG.md
var formats = [endFormat]struct {
	name      string
	weight    safetensors.Dtype
	scales    []safetensors.Dtype
	blockRows int // rows and columns of weights that share a scale; 0: no scales
	blockCols int
	decode    func(dst []float32, data, scale []byte)
	encode    func(data, scale []byte, values []float32) // nil: nothing is requantized to it
	made      bool                                       // in memory alone; no tensor is taken for it
	packed    bool                                       // two columns a byte
}{
	F32:     {name: "F32", weight: safetensors.F32, decode: decodeF32},
	F16:     {name: "F16", weight: safetensors.F16, decode: decodeF16},
	BF16:    {name: "BF16", weight: safetensors.BF16, decode: decodeBF16},
	MXFP8:   {"MXFP8", safetensors.F8E4M3, []safetensors.Dtype{safetensors.U8, "F8_E8M0"}, 1, 32, decodeMXFP8, encodeMXFP8, false, false},
	FP8F32:  {"FP8 128x128 (F32 scales)", safetensors.F8E4M3, []safetensors.Dtype{safetensors.F32}, 128, 128, decodeFP8F32, nil, false, false},
	fp8BF16: {"FP8 128x128 (BF16 scales)", safetensors.F8E4M3, []safetensors.Dtype{safetensors.BF16}, 128, 128, decodeFP8BF16, nil, false, false},
	INT8:    {"INT8", "I8", []safetensors.Dtype{safetensors.BF16}, 1, 32, decodeINT8, encodeINT8, true, false},
	MXFP4:   {"MXFP4", safetensors.U8, []safetensors.Dtype{safetensors.U8, "F8_E8M0"}, 1, 32, decodeMXFP4, encodeMXFP4, false, true},
	NVFP4:   {"NVFP4", safetensors.U8, []safetensors.Dtype{safetensors.F8E4M3}, 1, 16, decodeNVFP4, nil, false, true},
}

// valid reports whether f is one of the formats.
func (f Format) valid() bool { return f > 0 && f < endFormat }

// String returns the name of the format.
func (f Format) String() string {
	if !f.valid() {
		return fmt.Sprintf("Format(%d)", int32(f))
	}
	return formats[f].name
}

// rowBytes returns the bytes of cols stored values, without scales. f is valid,
// here and in the methods below.
func (f Format) rowBytes(cols int) int64 {
	if formats[f].packed {
		return int64(ceilDiv(cols, 2))
	}
	return int64(cols) * int64(formats[f].weight.Bits()/8)
}

// storedShape returns the shape of the weight tensor of rows × cols values.
func (f Format) storedShape(rows, cols int) []int {
	if formats[f].packed {
		cols = ceilDiv(cols, 2)
	}
	return []int{rows, cols}
}

// quantized reports whether the format has scales.
func (f Format) quantized() bool { return formats[f].blockCols > 0 }

// scaleShape returns the shape of the scale tensor beside a weight of that
// shape; 0, 0 where the format has none.
func (f Format) scaleShape(rows, cols int) (scaleRows, scaleCols int) {
	if !f.quantized() {
		return 0, 0
	}
	return ceilDiv(rows, formats[f].blockRows), ceilDiv(cols, formats[f].blockCols)
}

// Bytes returns the size of a matrix in the format, weights and scales.
func (f Format) Bytes(rows, cols int) int64 {
	s := DenseSegment(f, rows, cols, 0, 0)
	return s.bytes(cols)
}

// scaleRows returns the rows of scales that rows of weights need.
func (f Format) scaleRows(rows interval) interval {
	block := formats[f].blockRows
	return interval{rows[0] / block, ceilDiv(rows[1], block)}
}

// scaleBytes is the size of one stored scale.
func (f Format) scaleBytes() int64 { return int64(formats[f].scales[0].Bits() / 8) }

// scaleRowBytes is the size of the scales of cols columns, end to end.
func (f Format) scaleRowBytes(cols int) int64 {
	return int64(ceilDiv(cols, formats[f].blockCols)) * f.scaleBytes()
}

// Decode writes the values of one row. data holds len(dst) stored values, scale
// the row's scales, if the format has any. Neither needs alignment. The values of NVFP4 are
// without the scale that all of a matrix has in common.
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
	for len(dst) >= 4 && len(data) >= 8 {
		d, four := (*[4]float32)(dst), binary.LittleEndian.Uint64(data)
		d[0], d[1] = halfToFloat32(uint16(four)), halfToFloat32(uint16(four>>16))
		d[2], d[3] = halfToFloat32(uint16(four>>32)), halfToFloat32(uint16(four>>48))
		dst, data = dst[4:], data[8:]
	}
	for i := range dst {
		dst[i] = halfToFloat32(binary.LittleEndian.Uint16(data[2*i:]))
	}
}

func decodeBF16(dst []float32, data, _ []byte) {
	data = data[:2*len(dst)]
	for len(dst) >= 4 && len(data) >= 8 {
		d, four := (*[4]float32)(dst), binary.LittleEndian.Uint64(data)
		d[0], d[1] = hip.BF16(four).Float32(), hip.BF16(four>>16).Float32()
		d[2], d[3] = hip.BF16(four>>32).Float32(), hip.BF16(four>>48).Float32()
		dst, data = dst[4:], data[8:]
	}
	for i := range dst {
		dst[i] = hip.BF16(binary.LittleEndian.Uint16(data[2*i:])).Float32()
	}
}

func decodeMXFP8(dst []float32, data, scale []byte) {
	for block := 0; len(dst) > 0; block++ {
		dst, data = decodeBlock(dst, data, 32, valueOfE8M0(scale[block]))
	}
}

func decodeFP8F32(dst []float32, data, scale []byte) {
	for block := 0; len(dst) > 0; block++ {
		s := math.Float32frombits(binary.LittleEndian.Uint32(scale[4*block:]))
		dst, data = decodeBlock(dst, data, 128, s)
	}
}

func decodeFP8BF16(dst []float32, data, scale []byte) {
	for block := 0; len(dst) > 0; block++ {
		s := hip.BF16(binary.LittleEndian.Uint16(scale[2*block:])).Float32()
		dst, data = decodeBlock(dst, data, 128, s)
	}
}

func decodeINT8(dst []float32, data, scale []byte) {
	for block := 0; len(dst) > 0; block++ {
		n := min(32, len(dst))
		s := hip.BF16(binary.LittleEndian.Uint16(scale[2*block:])).Float32()
		for i, c := range data[:n] {
			dst[i] = float32(int8(c)) * s
		}
		dst, data = dst[n:], data[n:]
	}
}

// decodeBlock decodes at most block e4m3 values of one scale, and returns the rest.
func decodeBlock(dst []float32, data []byte, block int, scale float32) ([]float32, []byte) {
	n := min(block, len(dst))
	values, codes := dst[:n], data[:n]
	for len(values) >= 8 && len(codes) >= 8 {
		v, c := (*[8]float32)(values), (*[8]byte)(codes)
		v[0], v[1] = e4m3[c[0]]*scale, e4m3[c[1]]*scale
		v[2], v[3] = e4m3[c[2]]*scale, e4m3[c[3]]*scale
		v[4], v[5] = e4m3[c[4]]*scale, e4m3[c[5]]*scale
		v[6], v[7] = e4m3[c[6]]*scale, e4m3[c[7]]*scale
		values, codes = values[8:], codes[8:]
	}
	for i, c := range codes {
		values[i] = e4m3[c] * scale
	}
	return dst[n:], data[n:]
}

// e4m3 holds the values of the 256 codes of F8_E4M3, see [hip.E4M3].
var e4m3 = e4m3Values()

func e4m3Values() (values [256]float32) {
	for code := range values {
		values[code] = hip.E4M3(code).Float32()
	}
	return values
}

// valueOfE8M0 returns the value of an F8_E8M0 code: 2^(code−127), and NaN for 255
// (OCP MX, section 5.4.1). Code 0 is the float32 subnormal 2^−127.
func valueOfE8M0(code byte) float32 {
	switch code {
	case 0:
		return math.Float32frombits(1 << 22)
	case 255:
		return float32(math.NaN())
	}
	return math.Float32frombits(uint32(code) << 23)
}

// halfToFloat32 widens an IEEE binary16, exactly: the exponent moves from bias 15
// to bias 127. A subnormal is read as 2^−14 too much, which is then taken off.
func halfToFloat32(h uint16) float32 {
	bits := uint32(h&0x7fff)<<13 + 112<<23
	switch {
	case bits < 113<<23:
		bits = math.Float32bits(math.Float32frombits(bits+1<<23) - 1.0/(1<<14))
	case bits >= 143<<23: // infinity and NaN
		bits += 112 << 23
	}
	return math.Float32frombits(bits | uint32(h>>15)<<31)
}
