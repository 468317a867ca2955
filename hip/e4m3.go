package hip

import "math"

// E4M3 is an F8_E4M3 number as stored (OCP OFP8, section 5.2): sign, 4 exponent bits with
// bias 7, 3 mantissa bits. The largest magnitude is 448 and the smallest above 0 is 2^−9. It
// has no infinities; 0x7F and 0xFF are NaN. Like [BF16], it is a type of its own so that
// memory of it is compared as numbers.
type E4M3 uint8

// Float32 returns the value, exactly.
func (e E4M3) Float32() float32 { return e4m3[e] }

// ToE4M3 rounds to the nearest E4M3, ties to even. Beyond 448, infinities included, it is
// 448 with the sign of f. NaN stays NaN and keeps its sign.
func ToE4M3(f float32) E4M3 {
	const infinity = 0xff << 23
	bits := math.Float32bits(f)
	sign, magnitude := E4M3(bits>>24)&0x80, bits&^(1<<31)
	switch {
	case magnitude > infinity:
		return sign | 0x7f
	case magnitude >= 0x43e00000: // 448
		return sign | 0x7e
	case magnitude < 121<<23: // below 2^−6, in steps of 2^−9: the last bit of 2^14 + f
		return sign | E4M3(math.Float32bits(math.Float32frombits(magnitude)+1<<14))
	}
	// 20 bits of the mantissa go. A carry into the exponent is right as it is.
	magnitude += 1<<19 - 1 + magnitude>>20&1
	return sign | E4M3(magnitude>>20-(127-7)<<3)
}

// e4m3 holds the values of the 256 codes.
var e4m3 = e4m3Values()

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
