package reference

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Columns that share an E8M0 scale of MXFP8, and the side of the square block
// that shares a float scale.
const (
	mxBlock     = 32
	nvBlock     = 16 // of NVFP4
	squareBlock = 128
)

// decoder turns the bytes of one element into its value.
type decoder struct {
	width int // bytes
	value func(b []byte) float64
}

var decoders = map[safetensors.Dtype]decoder{
	safetensors.F32: {4, func(b []byte) float64 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
	}},
	safetensors.BF16:   {2, func(b []byte) float64 { return bf16(binary.LittleEndian.Uint16(b)) }},
	safetensors.F16:    {2, func(b []byte) float64 { return f16(binary.LittleEndian.Uint16(b)) }},
	safetensors.F8E4M3: {1, func(b []byte) float64 { return e4m3(b[0]) }},
	"F8_E8M0":          {1, func(b []byte) float64 { return e8m0(b[0]) }},
	safetensors.U8:     {1, func(b []byte) float64 { return e8m0(b[0]) }}, // as a scale
}

// bf16 is the upper half of a float32.
func bf16(bits uint16) float64 {
	return float64(math.Float32frombits(uint32(bits) << 16))
}

// f16 is IEEE binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
func f16(bits uint16) float64 {
	sign, exponent, fraction := 1-2*float64(bits>>15), int(bits>>10&31), float64(bits&1023)
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+fraction, exponent-25)
}

// e4m3 is the "fn" variant: 1 sign, 4 exponent (bias 7), 3 fraction bits, no
// infinities, NaN where all bits but the sign are set.
func e4m3(code byte) float64 {
	sign, exponent, fraction := 1-2*float64(code>>7), int(code>>3&15), float64(code&7)
	switch {
	case code&0x7f == 0x7f:
		return math.NaN()
	case exponent == 0:
		return sign * math.Ldexp(fraction, -9)
	}
	return sign * math.Ldexp(8+fraction, exponent-10)
}

// e8m0 is a power of two: 2^(code − 127), NaN for 255.
func e8m0(code byte) float64 {
	if code == 255 {
		return math.NaN()
	}
	return math.Ldexp(1, int(code)-127)
}

// elements reads and decodes a whole tensor, which must have the given shape and one of the dtypes.
func elements(t *safetensors.Tensor, shape []int, dtypes ...safetensors.Dtype) ([]float64, error) {
	if !slices.Equal(t.Shape, shape) || !slices.Contains(dtypes, t.Dtype) {
		return nil, &tensorError{
			tensor: t.Name, got: fmt.Sprintf("%v %v", t.Dtype, t.Shape), want: fmt.Sprintf("one of %v, shape %v", dtypes, shape),
		}
	}
	stored := make([]byte, t.Size())
	if _, err := t.ReadAt(stored, 0); err != nil && err != io.EOF {
		return nil, &tensorError{tensor: t.Name, err: err}
	}
	decode := decoders[t.Dtype]
	values := make([]float64, len(stored)/decode.width)
	for i := range values {
		values[i] = decode.value(stored[i*decode.width:])
	}
	return values, nil
}

// scaled multiplies the values of an F8_E4M3 matrix by the scales beside it:
// one per 32 columns of a row if they are E8M0, one per 128 × 128 block if they
// are floats. The last blocks of a row or column may be partial.
func scaled(values []float64, rows, cols int, scale *safetensors.Tensor) ([]float64, error) {
	blockRows, blockCols := 1, mxBlock
	dtypes := []safetensors.Dtype{safetensors.U8, "F8_E8M0"}
	if scale.Dtype == safetensors.F32 || scale.Dtype == safetensors.BF16 {
		blockRows, blockCols = squareBlock, squareBlock
		dtypes = []safetensors.Dtype{safetensors.F32, safetensors.BF16}
	}
	perRow := (cols + blockCols - 1) / blockCols
	scales, err := elements(scale, []int{(rows + blockRows - 1) / blockRows, perRow}, dtypes...)
	if err != nil {
		return nil, err
	}
	for i := range values {
		r, c := i/cols, i%cols
		values[i] *= scales[r/blockRows*perRow+c/blockCols]
	}
	return values, nil
}
