package attention

import (
	"math"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonConvertFile holds what changes values one by one for arm64, as convertFile does for
// amd64.
func neonConvertFile() *asm.File {
	f := neonFile("convert", "Conversions and rotations, value by value.")
	neonWiden(f)
	neonWidenFP8(f)
	neonNarrow(f)
	neonRotate(f)
	return f
}

// loadArgs loads arguments on the stack to registers, in their order.
func loadArgs(f *asm.Func, names ...string) []asm.GP {
	registers := f.Registers(len(names))
	for i, name := range names {
		f.Op("MOVD", f.Arg(name), registers[i])
	}
	return registers
}

func words(v asm.Vec) asm.Vec { return v.As("H8") }
func bytes(v asm.Vec) asm.Vec { return v.As("B16") }

// neonWiden puts zeros below each value.
func neonWiden(file *asm.File) {
	f := file.Func(asm.NEON, "widenNEON(dst *float32, src *hip.BF16, n int)", "converts n values, a multiple of 32, exactly.")
	r := loadArgs(f, "dst", "src", "n")
	dst, src, n := r[0], r[1], r[2]
	stored, values, zero := f.Vectors(4), f.Vectors(8), f.Vector()
	f.Clear(zero)
	loop := f.Mark(f.Label("values"))
	f.LoadMany(src.At(0), stored...)
	for i, v := range stored {
		f.Op("VZIP1", words(v), words(zero), words(values[2*i]))
		f.Op("VZIP2", words(v), words(zero), words(values[2*i+1]))
	}
	f.StoreMany(dst.At(0), values...)
	f.Op("ADD", 64, src)
	f.Op("ADD", 128, dst)
	f.Op("SUBS", 32, n)
	f.Op("BNE", loop)
	f.Return()
}

// neonWidenFP8 takes the way by half precision: with its sign and magnitude moved into place
// a code is a half of value · 2^−8. NaN becomes all ones.
func neonWidenFP8(file *asm.File) {
	f := file.Func(asm.NEON, "widenFP8NEON(dst *hip.BF16, src *hip.E4M3, n int)", docWidenFP8)
	r := loadArgs(f, "dst", "src", "n")
	dst, src, n, by := r[0], r[1], r[2], f.Register()
	codes, nan := f.Vector(), f.Vector()
	halves, nans := f.Vectors(2), f.Vectors(2)
	floats := f.Vectors(4)
	two8, doubledNaN := f.Vector(), f.Vector()
	f.BroadcastFloat(256, by, two8)
	f.Op("VMOVI", 0xfe, bytes(doubledNaN))
	loop := f.Mark(f.Label("values"))
	f.Load(src.At(0), codes)
	f.Op("VADD", bytes(codes), bytes(codes), bytes(nan)) // without the sign
	f.Op("VCMEQ", bytes(doubledNaN), bytes(nan), bytes(nan))
	for i, long := range []string{"SSHLL", "SSHLL2"} {
		h, pair := halves[i], floats[2*i:][:2]
		f.Word(long, 0, nan, nans[i])
		f.Word(long, 7, codes, h)
		f.Word("BIC.I", 0x4000, h)
		f.Word("FCVTL", h, pair[0])
		f.Word("FCVTL2", h, pair[1])
		for _, v := range pair {
			f.Word("FMUL", two8, v, v)
		}
		f.Op("VUZP2", words(pair[1]), words(pair[0]), words(h)) // the upper halves
		f.Op("VORR", bytes(nans[i]), bytes(h), bytes(h))
	}
	f.StoreMany(dst.At(0), halves...)
	f.Op("ADD", 16, src)
	f.Op("ADD", 32, dst)
	f.Op("SUBS", 16, n)
	f.Op("BNE", loop)
	f.Return()
}

// neonNarrow is narrow for arm64.
func neonNarrow(file *asm.File) {
	f := file.Func(asm.NEON, "narrowNEON(dst *hip.BF16, src *float32, n int)", "is hip.ToBF16 of n values, a multiple of 16.")
	r := loadArgs(f, "dst", "src", "n")
	dst, src, n, by := r[0], r[1], r[2], f.Register()
	values := f.Vectors(4)
	nan, ordered, lowest := f.Vector(), f.Vector(), f.Vector()
	half, one, quiet := f.Vector(), f.Vector(), f.Vector()
	for _, c := range []struct {
		bits uint32
		to   asm.Vec
	}{{0x7fff, half}, {1, one}, {0x00400000, quiet}} {
		f.BroadcastFloat(math.Float32frombits(c.bits), by, c.to)
	}
	loop := f.Mark(f.Label("values"))
	f.LoadMany(src.At(0), values...)
	for _, v := range values {
		f.Word("FCMEQ", v, v, ordered)
		f.Op("VORR", bytes(quiet), bytes(v), bytes(nan))
		f.Op("VUSHR", 16, v, lowest)
		f.Op("VAND", bytes(one), bytes(lowest), bytes(lowest))
		f.Op("VADD", half, v, v)
		f.Op("VADD", lowest, v, v)
		f.Op("VBIF", bytes(ordered), bytes(nan), bytes(v))
	}
	for i := 0; i < len(values); i += 2 {
		f.Op("VUZP2", words(values[i+1]), words(values[i]), words(values[i/2]))
	}
	f.StoreMany(dst.At(0), values[:2]...)
	f.Op("ADD", 64, src)
	f.Op("ADD", 32, dst)
	f.Op("SUBS", 16, n)
	f.Op("BNE", loop)
	f.Return()
}

func neonRotate(file *asm.File) {
	f := file.Func(asm.NEON, "rotateNEON(low, high, cos, sin *float32, n int)", docRotate)
	names := []string{"low", "high", "cos", "sin", "n"}
	at := loadArgs(f, names...)
	n := at[4]
	var v [4][]asm.Vec
	for k := range v {
		v[k] = f.Vectors(2)
	}
	newLow, newHigh := f.Vectors(2), f.Vectors(2)
	loop := f.Mark(f.Label("values"))
	for k := range v {
		f.LoadMany(at[k].At(0), v[k]...)
	}
	for i := range 2 {
		low, high, cos, sin := v[0][i], v[1][i], v[2][i], v[3][i]
		f.Word("FMUL", sin, low, newHigh[i])
		f.Op("VFMLA", cos, high, newHigh[i])
		f.Word("FNEG", sin, sin)
		f.Word("FMUL", sin, high, newLow[i])
		f.Op("VFMLA", cos, low, newLow[i])
	}
	f.StoreMany(at[0].At(0), newLow...)
	f.StoreMany(at[1].At(0), newHigh...)
	for k := range v {
		f.Op("ADD", 32, at[k])
	}
	f.Op("SUBS", 8, n)
	f.Op("BNE", loop)
	f.Return()
}
