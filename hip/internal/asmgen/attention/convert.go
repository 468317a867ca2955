package attention

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// convertFile holds what changes values one by one.
func convertFile() *asm.File {
	f := file("convert", "Conversions and rotations, value by value.")
	for _, level := range levels {
		widen(f, level)
	}
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

func rotate(file *asm.File) {
	f := file.Func(asm.AVX2, "rotateAVX2(low, high, cos, sin *float32, n int)", `turns n pairs, a multiple of 8:

	low[j], high[j] = low[j]·cos[j] − high[j]·sin[j], high[j]·cos[j] + low[j]·sin[j]

The products with sin are rounded to float32, those with cos fused with the sums.`)
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
