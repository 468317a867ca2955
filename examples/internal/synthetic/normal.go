package synthetic

import (
	"fmt"
	"math"
	"sort"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// maxE4M3 is the code of the largest finite e4m3 value, 448.
const maxE4M3 = 0x7e

// quantile returns the middle of the i-th of n equally likely parts of the
// standard normal distribution.
func quantile(i, n int) float64 {
	return math.Sqrt2 * math.Erfinv((float64(2*i+1))/float64(n)-1)
}

// bf16Normal is N(0, deviation²) as BF16.
func bf16Normal(deviation float64) *[4096]uint16 {
	t := new([4096]uint16)
	for i := range t {
		t[i] = uint16(hip.ToBF16(float32(quantile(i, len(t)) * deviation)))
	}
	return t
}

// f32Normal is N(0, deviation²) as F32.
func f32Normal(deviation float64) *[4096]uint32 {
	t := new([4096]uint32)
	for i := range t {
		t[i] = math.Float32bits(float32(quantile(i, len(t)) * deviation))
	}
	return t
}

// mxfp8Normal is about N(0, deviation²) as e4m3 codes and e8m0 scales. Half of
// the blocks have a scale that is one octave below the others', and the values
// are raised so that the mean of squares comes out right:
//
//	deviation² = (1 + 1/4)/2 · (2^exponent · unit)²
//
// The exponent is the lowest at which the widest quantile stays below 448, the
// largest e4m3. A deviation outside of about 1e−36 to 8e37 is an error: it has no scale, or
// values beyond float32.
func mxfp8Normal(deviation float64) (codes, scales *[256]uint8, err error) {
	const minExponent, maxExponent = -125, 119
	raised := deviation / math.Sqrt((1+0.25)/2)
	widest := quantile(255, 256) * raised
	octave := math.Ceil(math.Log2(widest / float64(e4m3(maxE4M3))))
	if !(octave >= minExponent && octave <= maxExponent) { // NaN too
		return nil, nil, fmt.Errorf("a standard deviation of %g is out of the range of MXFP8", deviation)
	}
	exponent := int(octave)
	unit := math.Ldexp(raised, -exponent)
	codes, scales = new([256]uint8), new([256]uint8)
	for i := range codes {
		codes[i] = toE4M3(quantile(i, 256) * unit)
		scales[i] = uint8(127 + exponent - i&1)
	}
	return codes, scales, nil
}

// e4m3 returns the value of a code.
func e4m3(code uint8) float32 {
	var value [1]float32
	weights.MXFP8.Decode(value[:], []byte{code}, []byte{127}) // times 1
	return value[0]
}

// toE4M3 returns the code of the finite e4m3 value nearest to v. Codes without
// their sign are in the order of their values.
func toE4M3(v float64) uint8 {
	magnitude := math.Abs(v)
	code := sort.Search(maxE4M3, func(code int) bool {
		middle := (float64(e4m3(uint8(code))) + float64(e4m3(uint8(code+1)))) / 2
		return magnitude <= middle
	})
	if math.Signbit(v) {
		code |= 0x80
	}
	return uint8(code)
}

// Normal is an endless sequence of N(0, 1) as BF16, any part of which can be made
// without those before it.
type Normal struct{ values stream }

// NewNormal returns the sequence of that name.
func NewNormal(name string) *Normal {
	return &Normal{stream{key: streamKey(0, name), halves: bf16Normal(1)}}
}

// ReadAt fills p with the bytes from offset off ≥ 0.
func (n *Normal) ReadAt(p []byte, off int64) { n.values.readAt(p, off) }
