package weights

import (
	"encoding/binary"
	"math"
	"math/rand/v2"

	"github.com/drafthead/drafthead/hip"
)

// stored is a matrix as a checkpoint stores it, and its values by closed forms.
type stored struct {
	format      Format
	rows, cols  int
	data, scale []byte
	of          global
	values      []float32 // [rows, cols]
}

// checkpointFormats are those that tensors are stored in, allFormats all rows of
// the format table.
var (
	checkpointFormats = []Format{F32, F16, BF16, MXFP8, FP8F32, fp8BF16, MXFP4, NVFP4}
	allFormats        = []Format{F32, F16, BF16, MXFP8, FP8F32, fp8BF16, INT8, MXFP4, NVFP4}
)

// newStored returns random weights without NaN, of magnitudes about 1.
func newStored(r *rand.Rand, f Format, rows, cols int) stored {
	s := stored{format: f, rows: rows, cols: cols, of: one}
	if f == NVFP4 {
		s.of = global{1, float32(r.Float64() + 1)}
	}
	scaleRows, scaleCols := f.scaleShape(rows, cols)
	var scales []float64
	for range scaleRows * scaleCols {
		var v float64
		s.scale, v = appendScale(s.scale, r, f)
		scales = append(scales, v)
	}
	for i := range rows * cols {
		var v float64
		if formats[f].packed {
			s.data, v = appendFP4(s.data, r, i%cols)
		} else {
			s.data, v = appendValue(s.data, r, f)
		}
		if f.quantized() {
			row, col := i/cols/formats[f].blockRows, i%cols/formats[f].blockCols
			v *= scales[row*scaleCols+col]
			v = v * float64(s.of.factor) / float64(s.of.divisor)
		}
		s.values = append(s.values, float32(v))
	}
	return s
}

// appendValue appends a random stored value and returns it.
func appendValue(b []byte, r *rand.Rand, f Format) ([]byte, float64) {
	v := float32(r.NormFloat64())
	switch f {
	case F32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v)), float64(v)
	case BF16:
		h := hip.ToBF16(v)
		return binary.LittleEndian.AppendUint16(b, uint16(h)), float64(h.Float32())
	case F16: // exponents up to 2^1, subnormals now and then
		h := uint16(r.Uint32N(0x4400)) | uint16(r.Uint32N(2))<<15
		return binary.LittleEndian.AppendUint16(b, h), half(h)
	case INT8:
		code := byte(r.Uint32N(0x100))
		return append(b, code), float64(int8(code))
	}
	code := byte(r.Uint32N(0x7f)) | byte(r.Uint32N(2))<<7
	return append(b, code), e4m3Value(code)
}

// appendFP4 appends a random e2m1 of column c, or puts it into the last byte's high nibble.
func appendFP4(b []byte, r *rand.Rand, c int) ([]byte, float64) {
	code := byte(r.Uint32N(16))
	v := minifloat(int(code>>3), int(code>>1&3), float64(code&1)/2, 1)
	if c%2 == 0 {
		return append(b, code), v
	}
	b[len(b)-1] |= code << 4
	return b, v
}

// appendScale appends a random stored scale and returns it.
func appendScale(b []byte, r *rand.Rand, f Format) ([]byte, float64) {
	v := float32(r.Float64() + 0.5)
	switch f {
	case FP8F32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(v)), float64(v)
	case fp8BF16, INT8:
		h := hip.ToBF16(v)
		return binary.LittleEndian.AppendUint16(b, uint16(h)), float64(h.Float32())
	}
	if f == NVFP4 {
		code := byte(0x20 + r.Uint32N(0x20))
		return append(b, code), e4m3Value(code)
	}
	code := byte(115 + r.Uint32N(16))
	return append(b, code), math.Ldexp(1, int(code)-127)
}

// e4m3Value is (−1)^s · 2^(max(e,1)−7) · ([e > 0] + m/8), NaN for 0x7F and 0xFF.
func e4m3Value(code byte) float64 {
	if code&0x7f == 0x7f {
		return math.NaN()
	}
	return minifloat(int(code>>7), int(code>>3&15), float64(code&7)/8, 7)
}

// half is (−1)^s · 2^(max(e,1)−15) · ([e > 0] + m/1024); e = 31: infinity, NaN.
func half(h uint16) float64 {
	sign, exponent, mantissa := int(h>>15), int(h>>10&31), float64(h&0x3ff)/1024
	switch {
	case exponent == 31 && mantissa != 0:
		return math.NaN()
	case exponent == 31:
		return math.Inf(1 - 2*sign)
	}
	return minifloat(sign, exponent, mantissa, 15)
}

func minifloat(sign, exponent int, fraction float64, bias int) float64 {
	if exponent > 0 {
		fraction++
	}
	v := fraction * math.Pow(2, float64(max(exponent, 1)-bias))
	return math.Copysign(v, float64(1-2*sign))
}

// arena uploads to a device and frees all of it at once. The first error sticks.
type arena struct {
	d    hip.Device
	ptrs []hip.Ptr
	err  error
}

// bytes uploads data so that it begins pad bytes after an aligned address and
// ends where the allocation ends.
func (a *arena) bytes(data []byte, pad int) hip.Ptr {
	if a.err != nil || len(data) == 0 {
		return 0
	}
	p, err := a.d.Alloc(int64(pad + len(data)))
	if err == nil {
		a.ptrs = append(a.ptrs, p)
		err = a.d.Write(p.Add(int64(pad)), data)
	}
	a.err = err
	return p.Add(int64(pad))
}

func (a *arena) floats(values []float32) hip.Ptr {
	if a.err != nil {
		return 0
	}
	p, err := hip.Upload(a.d, values)
	a.ptrs, a.err = append(a.ptrs, p), err
	return p
}

func (a *arena) segment(s stored, pad int) Segment {
	segment := DenseSegment(s.format, s.rows, s.cols, a.bytes(s.data, pad), a.bytes(s.scale, pad))
	segment.global = s.of
	return segment
}

// matrix uploads the segments, all of cols columns, pad bytes off alignment.
func (a *arena) matrix(cols, pad int, parts ...stored) *Matrix {
	var segments []Segment
	for _, s := range parts {
		segments = append(segments, a.segment(s, pad))
	}
	return a.matrixOf(cols, segments...)
}

func (a *arena) matrixOf(cols int, segments ...Segment) *Matrix {
	if a.err != nil {
		return nil
	}
	m, err := NewMatrix(a.d, cols, segments)
	if a.err = err; err == nil {
		a.ptrs = append(a.ptrs, m.table)
	}
	return m
}

func (a *arena) free() error {
	var err error
	for _, p := range a.ptrs {
		if e := a.d.Free(p); err == nil {
			err = e
		}
	}
	return err
}
