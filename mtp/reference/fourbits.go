package reference

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nlpodyssey/spago/mat"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// e2m1 is a code of four bits: a sign, two bits of exponent and one of fraction.
var e2m1 = [8]float64{0, 0.5, 1, 1.5, 2, 3, 4, 6}

// fourBits decodes a matrix of 4-bit codes, under the names of compressed-tensors, Quark or
// ModelOpt. It returns false where name is none.
func (l *loader) fourBits(name string, rows, cols int) (mat.Matrix, bool) {
	base := strings.TrimSuffix(name, "weight")
	packed, isPacked := l.find(base + "weight_packed")
	if plain, ok := l.find(name); ok {
		if isPacked {
			l.fail(&tensorError{tensor: name, got: "also " + packed.Name, want: "one of them"})
			return nil, true
		}
		packed = plain
	}
	if packed == nil || packed.Dtype != safetensors.U8 {
		return nil, false
	}
	values, err := l.decodeFourBits(base, packed, rows, cols)
	if err != nil {
		l.fail(err)
		return nil, true
	}
	return newMatrix(rows, cols, values), true
}

// decodeFourBits multiplies codes by the scales of their blocks: powers of two, one per 32
// columns of a row, or e4m3, one per 16 columns, and those by a scale of the whole matrix.
func (l *loader) decodeFourBits(base string, packed *safetensors.Tensor, rows, cols int) ([]float64, error) {
	width := (cols + 1) / 2
	if want := []int{rows, width}; !slices.Equal(packed.Shape, want) {
		return nil, &tensorError{tensor: packed.Name, got: fmt.Sprintf("shape %v", packed.Shape), want: fmt.Sprintf("shape %v", want)}
	}
	codes := make([]byte, packed.Size())
	if _, err := packed.ReadAt(codes, 0); err != nil && err != io.EOF {
		return nil, &tensorError{tensor: packed.Name, err: err}
	}
	scale, ok := l.find(base + "weight_scale")
	if !ok {
		return nil, &tensorError{tensor: packed.Name, got: "no " + base + "weight_scale", want: "scales beside a matrix of 4 bits"}
	}
	block, dtypes, whole := mxBlock, []safetensors.Dtype{safetensors.U8, "F8_E8M0"}, 1.0
	if scale.Dtype == safetensors.F8E4M3 {
		block, dtypes = nvBlock, []safetensors.Dtype{safetensors.F8E4M3}
		var err error
		if whole, err = l.wholeScale(base, packed.Name); err != nil {
			return nil, err
		}
	}
	blocks := (cols + block - 1) / block
	scales, err := elements(scale, []int{rows, blocks}, dtypes...)
	if err != nil {
		return nil, err
	}
	values := make([]float64, rows*cols)
	for i := range values {
		r, c := i/cols, i%cols
		code := codes[r*width+c/2] >> (4 * (c % 2)) & 15
		values[i] = e2m1[code&7] * (1 - 2*float64(code>>3)) * scales[r*blocks+c/block] * whole
	}
	return values, nil
}

// wholeScale returns the factor of a matrix of NVFP4: weight_scale_2 is one, and
// weight_global_scale a divisor.
func (l *loader) wholeScale(base, of string) (float64, error) {
	factor, multiplies := l.find(base + "weight_scale_2")
	divisor, divides := l.find(base + "weight_global_scale")
	t := factor
	if divides {
		t = divisor
	}
	if multiplies == divides {
		return 0, &tensorError{tensor: of, got: fmt.Sprintf("weight_scale_2: %v, weight_global_scale: %v", multiplies, divides), want: "one of them beside a matrix of NVFP4"}
	}
	if len(t.Shape) > 1 || len(t.Shape) == 1 && t.Shape[0] != 1 {
		return 0, &tensorError{tensor: t.Name, got: fmt.Sprintf("shape %v", t.Shape), want: "shape [] or [1]"}
	}
	values, err := elements(t, t.Shape, safetensors.F32)
	switch {
	case err != nil:
		return 0, err
	case divides:
		return 1 / values[0], nil
	}
	return values[0], nil
}
