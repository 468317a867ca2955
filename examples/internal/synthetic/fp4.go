package synthetic

import (
	"fmt"
	"math"

	"github.com/drafthead/drafthead/weights"
)

// meanSquare is that of the 16 codes of e2m1. They are about the quantiles of a normal
// distribution, so that random bits are codes of one.
const meanSquare = 2 * (0.5*0.5 + 1 + 1.5*1.5 + 2*2 + 3*3 + 4*4 + 6*6) / 16

// inputScale is the input_global_scale of NVFP4, which quantized activations would use.
const inputScale = 448 * 6 / 20.0

// fp4Normal is about N(0, deviation²) in a format of four-bit codes.
func fp4Normal(format weights.Format, deviation float64) (*fp4Tables, error) {
	tables := &fp4Tables{blockTables: blockTables{codes: new([256]uint8), scales: new([256]uint8)}}
	for i := range tables.codes {
		tables.codes[i] = uint8(i)
	}
	if format == weights.MXFP4 {
		return tables, mxfp4Scales(tables.scales, deviation)
	}
	divisor := nvfp4Scales(tables.scales) / deviation
	if global := float32(divisor); !(global > 0) || math.IsInf(float64(global), 0) {
		return nil, fmt.Errorf("a standard deviation of %g is out of the range of NVFP4", deviation)
	}
	tables.global, tables.input = singles(divisor), singles(inputScale)
	return tables, nil
}

// mxfp4Scales makes the scales of a deviation: a share of the blocks has the least power of
// two that is too large for it, and the others have the next lower one:
//
//	deviation² = meanSquare · 4^exponent · (share + (1 − share)/4)
func mxfp4Scales(scales *[256]uint8, deviation float64) error {
	unit := deviation / math.Sqrt(meanSquare)
	exponent := math.Ceil(math.Log2(unit))
	if !(exponent >= -126 && exponent <= 124) { // NaN too
		return fmt.Errorf("a standard deviation of %g is out of the range of MXFP4", deviation)
	}
	ratio := unit / math.Ldexp(1, int(exponent)) // in (½, 1]
	share := (4*ratio*ratio - 1) / 3
	for i := range scales {
		scales[i] = uint8(127 + int(exponent))
		if float64(i) >= share*float64(len(scales)) {
			scales[i]--
		}
	}
	return nil
}

// nvfp4Scales makes scales within two octaves of 448, the largest, and returns the
// deviation of what they scale, before the global scale.
func nvfp4Scales(scales *[256]uint8) (deviation float64) {
	squares := 0.0
	for i := range scales {
		scales[i] = maxE4M3 - uint8(i%16)
		value := float64(e4m3(scales[i]))
		squares += value * value / float64(len(scales))
	}
	return math.Sqrt(squares * meanSquare)
}

// singles is a table of one number.
func singles(v float64) *[4096]uint32 {
	t := new([4096]uint32)
	for i := range t {
		t[i] = math.Float32bits(float32(v))
	}
	return t
}
