package weights

import (
	"encoding/binary"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// encodeMXFP8 writes a row as MXFP8: data holds len(values) bytes, scale one for each 32 of
// them. Values are rounded to the nearest code, ties to even, with the scale of the least
// squared error; a value outside of the scale's range becomes ±448 of it. A block with a
// NaN or an infinity becomes NaN as a whole: its scale is 255.
func encodeMXFP8(data, scale []byte, values []float32) {
	for block := 0; len(values) > 0; block++ {
		n := min(32, len(values))
		scale[block] = encodeMXFP8Block(data[:n], values[:n])
		data, values = data[n:], values[n:]
	}
}

// encodeMXFP8Block tries two scales. Let s be the one with the largest value in
// [256, 512) · s. Up to 464 · s, where 448 · s is still the nearest code, no scale
// does better for any value: a smaller one would have to clip the largest, and
// the codes of a larger one within this range are codes of s too. Above, s clips
// the largest, and 2 · s is coarser for the least: the errors decide.
func encodeMXFP8Block(data []byte, values []float32) (scale byte) {
	largest := largestBits(values)
	switch {
	case largest >= infinityBits:
		clear(data)
		return 255
	case largest < 8<<23: // s is 2^−127, the smallest
		roundE4M3(data, values, 0)
		return 0
	}
	scale = byte(largest>>23) - 8
	roundE4M3(data, values, scale)
	if math.Float32frombits(largest)*valueOfE8M0(254-scale) <= 464 {
		return scale
	}
	var codes [32]byte
	coarser := codes[:len(values)]
	roundE4M3(coarser, values, scale+1)
	if squaredError(coarser, values, scale+1) < squaredError(data, values, scale) {
		copy(data, coarser)
		scale++
	}
	return scale
}

// roundE4M3 writes the nearest codes under a scale of at most 247.
func roundE4M3(data []byte, values []float32, scale byte) {
	inverse := valueOfE8M0(254 - scale)
	for i, v := range values {
		data[i] = byte(hip.ToE4M3(v * inverse))
	}
}

// squaredError is that of codes under a scale. A code that stands for no float32,
// as 256 under 2^120, has an infinite one.
func squaredError(data []byte, values []float32, scale byte) (sum float64) {
	s := valueOfE8M0(scale)
	for i, v := range values {
		off := float64(e4m3[data[i]]*s) - float64(v)
		sum += off * off
	}
	return sum
}

// encodeINT8 writes a row as INT8: data holds len(values) bytes, scale a bfloat16 for each
// 32 of them, which is the largest magnitude ÷ 127, rounded. Values are rounded to the
// nearest multiple of it, ties to even, so that none is off by more than half of it. A
// block with a NaN or an infinity becomes NaN as a whole: its scale is NaN.
func encodeINT8(data, scale []byte, values []float32) {
	for block := 0; len(values) > 0; block++ {
		n := min(32, len(values))
		s := encodeINT8Block(data[:n], values[:n])
		binary.LittleEndian.PutUint16(scale[2*block:], uint16(s))
		data, values = data[n:], values[n:]
	}
}

func encodeINT8Block(data []byte, values []float32) hip.BF16 {
	largest := largestBits(values)
	switch {
	case largest >= infinityBits:
		clear(data)
		return hip.ToBF16(float32(math.NaN()))
	case largest == 0:
		clear(data)
		return 0
	}
	top := float64(math.Float32frombits(largest))
	scale := hip.ToBF16(float32(top / 127))
	// Rounded down by 2^−8 at most, the scale reaches 127.49 times as far. Below
	// the normal range it may be rounded by more.
	if 127.5*float64(scale.Float32()) <= top {
		scale++
	}
	inverse := 1 / float64(scale.Float32())
	for i, v := range values {
		data[i] = byte(roundToEven(float64(v) * inverse))
	}
	return scale
}

// roundToEven rounds |v| < 2^51 to an integer: the last bit of 1.5 · 2^52 + v is one.
func roundToEven(v float64) int64 {
	const big = 3 << 51
	return int64(math.Float64bits(v+big)) - int64(math.Float64bits(big))
}

// infinityBits are the bits of +∞; those of a NaN without its sign are larger.
const infinityBits = 0xff << 23

// largestBits returns the bits of the largest magnitude. As magnitudes they are in
// the order of their bits, NaN above all.
func largestBits(values []float32) (largest uint32) {
	for _, v := range values {
		largest = max(largest, math.Float32bits(v)&^(1<<31))
	}
	return largest
}
