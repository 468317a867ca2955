package attention

import (
	"encoding/binary"
	"math"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// convertFile holds what changes values one by one.
func convertFile() *asm.File {
	f := file("convert", "Conversions and rotations, value by value.")
	f.Table("subnormalFP8", subnormalFP8())
	for _, level := range levels {
		widen(f, level)
	}
	widenFP8Words512(f)
	widenFP8Words256(f)
	narrow(f)
	rotate(f)
	return f
}

func widen(file *asm.File, level asm.Level) {
	f := file.Func(level, "widen"+level.Name+"(dst *float32, src *hip.BF16, n int)",
		doc(level, "widen", "converts n values, a multiple of 32, exactly.", ""))
	dst, src, n, i := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.BX)
	values := f.Vectors(2)
	f.Op("MOVQ", f.Arg("dst"), dst)
	f.Op("MOVQ", f.Arg("src"), src)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Each("values", i, n, 2*level.Lanes(), func() {
		for k, v := range values {
			f.Op("VPMOVZXWD", src.At(k*level.Bytes/2).Index(i, 2), v)
		}
		for _, v := range values {
			f.Op("VPSLLD", 16, v, v)
		}
		for k, v := range values {
			f.Op("VMOVUPS", v, dst.At(k*level.Bytes).Index(i, 4))
		}
	})
	f.Return()
}

const docWidenFP8 = `converts n values, a multiple of 32, exactly. NaN stays NaN.`

// widenFP8Words512 makes bfloat16 of codes: from 8 on, which are normal, the magnitude moved
// to its place with the other bias; below, a table of 8; and for NaN all bits that are left.
func widenFP8Words512(file *asm.File) {
	f := file.Func(asm.AVX512, "widenFP8AVX512(dst *hip.BF16, src *hip.E4M3, n int)", docWidenFP8)
	dst, src, n, i, by := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.BX), f.Take(asm.AX)
	code, magnitude, value := f.Vector(), f.Vector(), f.Vector()
	constants := f.Top(6)
	codes, bias, eight, special, sign, subnormal := constants[0], constants[1], constants[2], constants[3], constants[4], constants[5]
	f.Op("MOVQ", f.Arg("dst"), dst)
	f.Op("MOVQ", f.Arg("src"), src)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Broadcast(0x007f007f, by, codes)
	f.Broadcast(fp8Bias<<16|fp8Bias, by, bias)
	f.Broadcast(0x00080008, by, eight)
	f.Broadcast(fp8Special<<16|fp8Special, by, special)
	f.Broadcast(0x80008000, by, sign)
	f.Op("VBROADCASTI32X4", asm.Table("subnormalFP8"), subnormal)
	f.Each("values", i, n, 32, func() {
		f.Op("VPMOVZXBW", src.At(0).Index(i, 1), code)
		f.Op("VPANDD", codes, code, magnitude)
		f.Op("VPSLLW", 4, magnitude, value)
		f.Op("VPADDW", bias, value, value)
		f.Op("VPCMPUW", lessThan, eight, magnitude, asm.K1)
		f.Op("VPCMPEQW", codes, magnitude, asm.K2)
		f.Op("VPERMW", subnormal, magnitude, asm.K1, value)
		f.Op("VPADDW", special, value, asm.K2, value)
		f.Op("VPSLLW", 8, code, code)
		f.Op("VPTERNLOGD", uint32(0xf8), sign, code, value) // value | code & sign
		f.Op("VMOVDQU64", value, dst.At(0).Index(i, 2))
	})
	f.Return()
}

// widenFP8Words256 takes 16 codes at a time, and looks up both bytes of a subnormal one.
func widenFP8Words256(file *asm.File) {
	f := file.Func(asm.AVX2, "widenFP8AVX2(dst *hip.BF16, src *hip.E4M3, n int)", doc(asm.AVX2, "widenFP8", docWidenFP8, ""))
	dst, src, n, i, by := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.BX), f.Take(asm.AX)
	code, magnitude, value, low, mask := f.Vector(), f.Vector(), f.Vector(), f.Vector(), f.Vector()
	constants := f.Top(7)
	codes, bias, eight, special, sign, subnormal, upper := constants[0], constants[1], constants[2], constants[3], constants[4], constants[5], constants[6]
	f.Op("MOVQ", f.Arg("dst"), dst)
	f.Op("MOVQ", f.Arg("src"), src)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Broadcast(0x007f007f, by, codes)
	f.Broadcast(fp8Bias<<16|fp8Bias, by, bias)
	f.Broadcast(0x00080008, by, eight)
	f.Broadcast(fp8Special<<16|fp8Special, by, special)
	f.Broadcast(0x80008000, by, sign)
	f.Broadcast(0x01000100, by, upper)
	f.Op("VBROADCASTI128", asm.Table("subnormalFP8"), subnormal)
	f.Each("values", i, n, 16, func() {
		f.Op("VPMOVZXBW", src.At(0).Index(i, 1), code)
		f.Op("VPAND", codes, code, magnitude)
		f.Op("VPSLLW", 4, magnitude, value)
		f.Op("VPADDW", bias, value, value)
		// The bytes of word m are 2·m and 2·m + 1.
		f.Op("VPSLLW", 1, magnitude, low)
		f.Op("VPSLLW", 9, magnitude, mask)
		f.Op("VPOR", mask, low, low)
		f.Op("VPOR", upper, low, low)
		f.Op("VPSHUFB", low, subnormal, low)
		f.Op("VPCMPGTW", magnitude, eight, mask)
		f.Op("VPBLENDVB", mask, low, value, value)
		f.Op("VPCMPEQW", codes, magnitude, mask)
		f.Op("VPAND", special, mask, mask)
		f.Op("VPADDW", mask, value, value)
		f.Op("VPSLLW", 8, code, code)
		f.Op("VPAND", sign, code, code)
		f.Op("VPOR", code, value, value)
		f.Op("VMOVDQU", value, dst.At(0).Index(i, 2))
	})
	f.Return()
}

const (
	fp8Bias    = 120 << 7 // of a bfloat16's exponent more than of e4m3's
	fp8Special = 0x3c00   // turns what 0x7f becomes into NaN
	lessThan   = 1        // of unsigned words
)

// subnormalFP8 is the codes 0 … 7 as bfloat16: multiples of 2^−9.
func subnormalFP8() []byte {
	table := make([]byte, 0, 16)
	for code := range 8 {
		table = binary.LittleEndian.AppendUint16(table, uint16(math.Float32bits(float32(code)/512)>>16))
	}
	return table
}

// narrow takes the upper half of a value rounded to nearest even. NaN keeps its upper
// bits and becomes quiet.
func narrow(file *asm.File) {
	f := file.Func(asm.AVX2, "narrowAVX2(dst *hip.BF16, src *float32, n int)", "is hip.ToBF16 of n values, a multiple of 16.")
	dst, src, n, i, by := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.BX), f.Take(asm.AX)
	values := f.Vectors(2)
	upper, nan, lowest := f.Vector(), f.Vector(), f.Vector()
	constants := f.Top(3)
	half, one, quiet := constants[2], constants[1], constants[0]
	f.Op("MOVQ", f.Arg("dst"), dst)
	f.Op("MOVQ", f.Arg("src"), src)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Broadcast(0x7fff, by, half)
	f.Broadcast(1, by, one)
	f.Broadcast(0x40, by, quiet)
	f.Each("values", i, n, 16, func() {
		for k, v := range values {
			f.Op("VMOVUPS", src.At(32*k).Index(i, 4), v)
		}
		for _, v := range values {
			f.Op("VCMPPS", unordered, v, v, nan)
			f.Op("VPSRLD", 16, v, upper)
			f.Op("VPAND", one, upper, lowest)
			f.Op("VPADDD", half, v, v)
			f.Op("VPADDD", lowest, v, v)
			f.Op("VPSRLD", 16, v, v)
			f.Op("VPOR", quiet, upper, upper)
			f.Op("VBLENDVPS", nan, upper, v, v)
		}
		f.Op("VPACKUSDW", values[1], values[0], values[0])
		f.Op("VPERMQ", uint32(0xd8), values[0], values[0])
		f.Op("VMOVDQU", values[0], dst.At(0).Index(i, 2))
	})
	f.Return()
}

// unordered compares with NaN.
const unordered = 3

const docRotate = `turns n pairs, a multiple of 8:

	low[j], high[j] = low[j]·cos[j] − high[j]·sin[j], high[j]·cos[j] + low[j]·sin[j]

The products with sin are rounded to float32, those with cos fused with the sums.`

func rotate(file *asm.File) {
	f := file.Func(asm.AVX2, "rotateAVX2(low, high, cos, sin *float32, n int)", docRotate)
	names := []string{"low", "high", "cos", "sin"}
	at := []asm.GP{f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.AX), f.Take(asm.DX)}
	n, i := f.Take(asm.CX), f.Take(asm.BX)
	v := f.Vectors(4)
	low, high, cos, sin := v[0], v[1], v[2], v[3]
	newLow, newHigh := f.Vector(), f.Vector()
	for k, name := range names {
		f.Op("MOVQ", f.Arg(name), at[k])
	}
	f.Op("MOVQ", f.Arg("n"), n)
	f.Each("values", i, n, 8, func() {
		for k, value := range v {
			f.Op("VMOVUPS", at[k].At(0).Index(i, 4), value)
		}
		f.Op("VMULPS", sin, high, newLow)
		f.Op("VMULPS", sin, low, newHigh)
		f.Op("VFMSUB231PS", cos, low, newLow)
		f.Op("VFMADD231PS", cos, high, newHigh)
		f.Op("VMOVUPS", newLow, at[0].At(0).Index(i, 4))
		f.Op("VMOVUPS", newHigh, at[1].At(0).Index(i, 4))
	})
	f.Return()
}
