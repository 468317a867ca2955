package weights

import (
	"math"

	"github.com/drafthead/drafthead/hip"
)

// SplitFew queues on d the splitting of rows rows of x, m.Cols float32 each, for a kernel that
// multiplies few rows with m: see [Matrix.Few]. It returns the parts for its arguments, which
// are valid until the next Split, SplitFew, Reserve or Free.
func (s *SplitRows) SplitFew(d hip.Device, m *Matrix, x hip.Ptr, rows int) (parts hip.Ptr, err error) {
	if err := s.memory.Grow(d, 1, splitFewBytes(rows, m.Cols)); err != nil {
		return 0, err
	}
	a := splitFewArgs{X: x, Split: s.memory.Ptr(), Rows: int32(rows), Cols: int32(m.Cols)}
	if m.fewF16() {
		a.F16 = 1
	}
	return a.Split, splitFew.Launch(d, hip.Grid{Blocks: rows * a.blocks()}, &a)
}

// blocks is how many blocks share a row: each of their threads makes eight columns of parts.
func (a *splitFewArgs) blocks() int {
	return ceilDiv(ceilDiv(int(a.Cols), splitColumns)*8, splitFewThreads)
}

// splitFewBytes is what rows rows of x take, and their scales, in whole pieces of 256 bytes.
func splitFewBytes(rows, cols int) int {
	return ceilDiv(rows, 64)*256 + rows*ceilDiv(cols, splitColumns)*256
}

const splitFewThreads = 256

type splitFewArgs struct {
	X     hip.Ptr // [Rows, Cols] float32, Cols a multiple of 4, aligned to 16 bytes
	Split hip.Ptr // [Rows] float32, padded to 256 bytes, and [Rows, ceil(Cols/64), 2, high and low, 4, 8]: see few.h
	Rows  int32
	Cols  int32
	F16   int64 // 1: parts are float16, not bfloat16
}

var splitFew = hip.NewKernel("split_few", splitFewSource(), splitFewTwin).Block(splitFewThreads)

func splitFewSource() string {
	return rowsSource() + hip.Define("splitColumns", splitColumns) + hip.Define("splitFewThreads", splitFewThreads) + splitFewHIP
}

func splitFewTwin(b *hip.Blocks, a *splitFewArgs) {
	rows, cols, blocks := int(a.Rows), int(a.Cols), a.blocks()
	groups := ceilDiv(cols, splitColumns)
	for row := ceilDiv(b.First, blocks); row < ceilDiv(b.End, blocks); row++ { // the first block of a row does it all
		x := hip.In[float32](b, a.X.Add(4*int64(row)*int64(cols)), cols)
		by, back := float32(1), float32(1)
		if a.F16 != 0 {
			by, back = f16Scale(x)
		}
		hip.Out[float32](b, a.Split.Add(4*int64(row)), 1)[0] = back
		to := a.Split.Add(int64(ceilDiv(rows, 64)*256 + row*groups*256))
		if a.F16 != 0 {
			fewParts(hip.Out[uint16](b, to, groups*128), x, by, f16Parts)
		} else {
			fewParts(hip.Out[hip.BF16](b, to, groups*128), x, by, splitFloat)
		}
	}
}

// fewParts makes the parts of a row, moved by a factor, in the order of few.h.
func fewParts[T uint16 | hip.BF16](parts []T, x []float32, by float32, split func(float32) (high, low T)) {
	for i := range parts {
		half, low, lane, at := i/64, i/32%2, i/8%4, i%8 // 32 columns, part, lane, of its 8 columns
		parts[i] = 0
		if c := half*32 + at/4*16 + lane*4 + at%4; c < len(x) {
			high, rest := split(x[c] * by)
			parts[i] = high
			if low != 0 {
				parts[i] = rest
			}
		}
	}
}

// f16Scale returns the power of two that moves the largest finite value to 2^14 or more, and
// its inverse.
func f16Scale(x []float32) (by, back float32) {
	top := uint32(0)
	for _, v := range x {
		if size := math.Float32bits(v) &^ (1 << 31); size < infinityBits {
			top = max(top, size)
		}
	}
	up := min(126, 141-int(top>>23))
	return float32(math.Ldexp(1, up)), float32(math.Ldexp(1, -up))
}

// f16Parts is splitFloat for two float16.
func f16Parts(v float32) (high, low uint16) {
	high = f16Bits(v)
	rest := v - halfToFloat32(high)
	if math.Float32bits(rest)&infinityBits == infinityBits {
		return high, 0
	}
	return high, f16Bits(rest)
}

// f16Bits rounds to an IEEE binary16, to nearest even.
func f16Bits(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, size := uint16(bits>>16&0x8000), bits&^(1<<31)
	switch {
	case size > infinityBits:
		return 0x7e00
	case size >= 0x477ff000: // 65520
		return sign | 0x7c00
	case size < 0x38800000: // subnormal
		return sign | uint16(math.RoundToEven(math.Ldexp(float64(math.Float32frombits(size)), 24)))
	}
	return sign | uint16((size-0x38000000+0xfff+size>>13&1)>>13)
}
