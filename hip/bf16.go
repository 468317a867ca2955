package hip

import "math"

// BF16 is a bfloat16 number as stored: the upper half of a float32. It is a
// type of its own so that memory of bfloat16 is compared as numbers.
type BF16 uint16

// Float32 returns the value, exactly.
func (b BF16) Float32() float32 { return math.Float32frombits(uint32(b) << 16) }

// ToBF16 rounds to the nearest bfloat16, ties to even. NaN stays NaN: its upper
// bits are kept and it is made quiet.
func ToBF16(f float32) BF16 {
	bits := math.Float32bits(f)
	if f != f {
		return BF16(bits>>16 | 0x40)
	}
	return BF16((bits + 0x7fff + bits>>16&1) >> 16)
}
