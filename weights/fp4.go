package weights

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// e2m1 holds the values of the 16 codes of four bits (OCP MX, section 5.3.3): a sign, two
// bits of exponent and one of fraction.
var e2m1 = [16]float32{0, 0.5, 1, 1.5, 2, 3, 4, 6, negativeZero, -0.5, -1, -1.5, -2, -3, -4, -6}

var negativeZero = float32(math.Copysign(0, -1))

func decodeMXFP4(dst []float32, data, scale []byte) {
	for block := 0; len(dst) > 0; block++ {
		dst, data = decodeFP4Block(dst, data, 32, valueOfE8M0(scale[block]))
	}
}

func decodeNVFP4(dst []float32, data, scale []byte) {
	for block := 0; len(dst) > 0; block++ {
		dst, data = decodeFP4Block(dst, data, 16, e4m3[scale[block]])
	}
}

// decodeFP4Block decodes at most block e2m1 values of one scale, and returns the rest.
func decodeFP4Block(dst []float32, data []byte, block int, scale float32) ([]float32, []byte) {
	n := min(block, len(dst))
	for i := range dst[:n] {
		dst[i] = e2m1[data[i/2]>>(4*(i%2))&15] * scale
	}
	return dst[n:], data[(n+1)/2:]
}

// global is the float32 that all values of a matrix of NVFP4 have in common: they are
// multiplied by factor and divided by divisor, of which one is 1, so that a value is rounded
// once. compressed-tensors stores a divisor, ModelOpt a factor.
type global struct{ factor, divisor float32 }

// one is the global scale of what has none.
var one = global{1, 1}

func (g global) scale(values []float32) {
	if g == one {
		return
	}
	for i, v := range values {
		values[i] = v * g.factor / g.divisor
	}
}

// valid reports whether both numbers are positive and finite.
func (g global) valid() bool {
	return g.factor > 0 && g.divisor > 0 && isFinite(g.factor) && isFinite(g.divisor)
}

// readGlobal reads the tensor of a global scale, of shape [] or [1].
func readGlobal(t *safetensors.Tensor, divides bool) (global, error) {
	var b [4]byte
	if _, err := t.ReadAt(b[:], 0); err != nil {
		return one, err
	}
	v := math.Float32frombits(binary.LittleEndian.Uint32(b[:]))
	if divides {
		return global{1, v}, nil
	}
	return global{v, 1}, nil
}

// checkGlobal checks and reads the global scale of a part: NVFP4 has one, and no other
// format.
func (a *audit) checkGlobal(p *Param, s *origin) {
	s.of = one
	switch t := s.global; {
	case s.format != NVFP4 && t != nil:
		a.problem(t.Name, p.Name, ruleStrayScale, fmt.Sprintf("beside %v", s.format), "NVFP4")
	case s.format != NVFP4:
	case t == nil:
		a.problem(s.weight.Name, p.Name, ruleMissingGlobal, "", "a weight_global_scale or a weight_scale_2 beside it")
	case t.Dtype != safetensors.F32:
		a.problem(t.Name, p.Name, ruleWrongDtype, string(t.Dtype), "F32")
	case !fits(t.Shape, scalarShapes):
		a.problem(t.Name, p.Name, ruleWrongShape, safetensors.Printable(fmt.Sprint(t.Shape)), "[] or [1]")
	default:
		of, err := readGlobal(t, s.divides)
		if err != nil {
			a.problem(t.Name, p.Name, ruleUnreadable, err.Error(), "")
			return
		}
		if s.of = of; !of.valid() {
			a.problem(t.Name, p.Name, ruleBadGlobal, fmt.Sprint(of.factor*of.divisor), "a positive finite number")
		}
	}
	if s.unused != nil && !formats[s.format].packed {
		a.problem(s.unused.Name, p.Name, ruleUnexpected, fmt.Sprintf("beside %v", s.format), "")
	}
}

// encodeMXFP4 writes a row as MXFP4: data holds (len(values)+1)/2 bytes, scale one byte for
// each 32 values. Values are rounded to the nearest code, ties to even, with the scale of
// the least squared error of three; a value outside of the scale's range becomes ±6 of it. A
// block with a NaN or an infinity becomes NaN as a whole: its scale is 255.
func encodeMXFP4(data, scale []byte, values []float32) {
	for block := 0; len(values) > 0; block++ {
		n := min(32, len(values))
		scale[block] = encodeMXFP4Block(data[:(n+1)/2], values[:n])
		data, values = data[(n+1)/2:], values[n:]
	}
}

// encodeMXFP4Block tries the scale with the largest value in [4, 8) of it, the next larger
// and the next smaller one.
func encodeMXFP4Block(data []byte, values []float32) (scale byte) {
	largest := largestBits(values)
	if largest >= infinityBits {
		clear(data)
		return 255
	}
	best := math.Inf(1)
	var codes [16]byte
	for s := max(int(largest>>23)-3, 0); s <= max(int(largest>>23)-1, 0) && s < 253; s++ {
		if off := roundE2M1(codes[:len(data)], values, byte(s)); off < best {
			best, scale = off, byte(s)
			copy(data, codes[:])
		}
	}
	return scale
}

// roundE2M1 writes the nearest codes under a scale, and returns their squared error.
func roundE2M1(data []byte, values []float32, scale byte) (off float64) {
	clear(data)
	s := math.Ldexp(1, int(scale)-127)
	for i, v := range values {
		code := nearestE2M1(float64(v) / s)
		data[i/2] |= code << (4 * (i % 2))
		d := float64(e2m1[code])*s - float64(v)
		off += d * d
	}
	return off
}

// nearestE2M1 rounds to nearest, ties to even codes, beyond 6 to 6.
func nearestE2M1(v float64) (code byte) {
	if math.Signbit(v) {
		code, v = 8, -v
	}
	for i, tie := range [...]float64{0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5} {
		if v < tie || v == tie && i%2 == 0 {
			return code | byte(i)
		}
	}
	return code | 7
}
