package weights

import (
	"bytes"
	"encoding/binary"
	"math"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// tables defines what look-ups and permutations need. The codes of e4m3 without
// sign have 128 values, exact in bfloat16, whose upper and lower bytes are looked
// up in two tables of 128 bytes.
func tables() *asm.File {
	f := file("tables", "Values that the functions look up.")
	high, low := make([]byte, 128), make([]byte, 128)
	for code := range high {
		high[code], low[code] = byte(bf16(code)>>8), byte(bf16(code))
	}
	f.Table("e4m3High", high)
	f.Table("e4m3Low", low)
	// For bfloat16 panels NaN is marked in the sign bit of the upper byte.
	marked := append([]byte(nil), high...)
	marked[127] |= 0x80
	f.Table("e4m3HighMarked", marked)

	// The bytes of 64 codes in the order in which VPUNPCKLBW and VPUNPCKHBW, which
	// work within 16 bytes, make of them words whose lower and upper halves of
	// double words are columns 0 … 15, 16 … 31 and 32 … 47, 48 … 63.
	floats := make([]byte, 64)
	for i := range 16 {
		lane, at := i/4, 2*(i%4)
		floats[16*lane+at], floats[16*lane+at+1] = byte(i), byte(16+i)
		floats[16*lane+8+at], floats[16*lane+8+at+1] = byte(32+i), byte(48+i)
	}
	f.Table("floatOrder", floats)
	// The same for words in the order of the columns, 0 … 31 and 32 … 63.
	order := make([]byte, 64)
	for i := range 32 {
		order[16*(i/8)+i%8], order[16*(i/8)+8+i%8] = byte(i), byte(32+i)
	}
	f.Table("wordOrder", order)

	scaleTables(f)
	// The 16 values of e2m1, and what moves the codes of 16 columns to the lowest bits of 16
	// lanes: shifts of double words, and for each byte of a lane's quadruple word the lowest
	// of the eight bits that it becomes.
	values, shifts, moves := make([]byte, 64), make([]byte, 64), make([]byte, 64)
	for lane := range 16 {
		code := lane & 7
		v := math.Ldexp(float64(2+code&1), code>>1-2)
		if code < 2 {
			v = float64(code) / 2
		}
		binary.LittleEndian.PutUint32(values[4*lane:], math.Float32bits(float32(math.Copysign(v, float64(7-lane)+0.5))))
		shifts[4*lane] = byte(4 * (lane % 8))
		moves[4*lane] = byte(4 * lane)
	}
	f.Table("e2m1Floats", values)
	f.Table("nibbleShifts", shifts)
	f.Table("nibbleMoves", moves)
	// What a scale adds to the bits of a bfloat16, for both halves of a double word.
	exponents := make([]byte, 4*256)
	for s := range 256 {
		delta := uint16((s - 127) << 7)
		binary.LittleEndian.PutUint32(exponents[4*s:], uint32(delta)<<16|uint32(delta))
	}
	f.Table("e8m0Exponent", exponents)
	// Which of 16 scales the double words, and the words, of an unpacked chunk are
	// multiplied by, and what leads to the next chunk's.
	lanes, words := make([]byte, 64), make([]byte, 64)
	for i := range 16 {
		lanes[4*i] = byte(i / 8)
	}
	for i := range 32 {
		words[2*i] = byte(i / 16)
	}
	f.Table("laneOfScale", lanes)
	f.Table("nextLanes", bytes.Repeat([]byte{2, 0, 0, 0}, 16))
	f.Table("wordOfScale", words)
	f.Table("nextWords", bytes.Repeat([]byte{2, 0}, 32))
	evens, odds := make([]byte, 64), make([]byte, 64)
	for i := range 16 {
		evens[4*i], odds[4*i] = byte(2*i), byte(2*i+1)
	}
	f.Table("evenLanes", evens)
	f.Table("oddLanes", odds)
	f.Table("infinity", []byte{0, 0, 0x80, 0x7f, 0, 0, 0, 0})
	f.Table("topBit", []byte{0, 0, 0x40, 0, 0, 0, 0, 0})
	f.Table("tileConfig", asm.TileConfig())
	return f
}

// neonTables is the part of tables that arm64 needs.
func neonTables() *asm.File {
	f := neonFile("tables", "Values that the functions look up.")
	scaleTables(f)
	// The upper bytes of e2m1 as half precision.
	f.Table("e2m1Halves", []byte{0, 0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x46, 0x80, 0xb8, 0xbc, 0xbe, 0xc0, 0xc2, 0xc4, 0xc6})
	return f
}

// scaleTables defines the values of scales, those of e8m0, 2^(s−127), and NaN for 255, and
// those of e4m3, and what widening by way of half precision needs.
func scaleTables(f *asm.File) {
	scales := make([]byte, 4*256)
	for s := range 256 {
		v := float32(math.Ldexp(1, s-127))
		if s == 255 {
			v = float32(math.NaN())
		}
		binary.LittleEndian.PutUint32(scales[4*s:], math.Float32bits(v))
	}
	f.Table("e8m0", scales)
	e4m3 := make([]byte, 4*256)
	for code := range 256 {
		bits := uint32(bf16(code&127))<<16 | uint32(code>>7)<<31
		binary.LittleEndian.PutUint32(e4m3[4*code:], bits)
	}
	f.Table("e4m3Floats", e4m3)
	f.Table("two8", bytes.Repeat([]byte{0, 0, 0x80, 0x43}, 4))
	f.Table("quietNaN", []byte{0, 0, 0xc0, 0x7f, 0, 0, 0, 0})
}

// bf16 is the value of an e4m3 code below 128, as bfloat16.
func bf16(code int) uint16 {
	exponent, mantissa := code>>3, float64(code&7)
	v := math.Ldexp(mantissa, -9)
	if exponent > 0 {
		v = math.Ldexp(8+mantissa, exponent-10)
	}
	if code == 127 {
		return 0x7fc0
	}
	return uint16(math.Float32bits(float32(v)) >> 16)
}
