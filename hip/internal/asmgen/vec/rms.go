package vec

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// rmsFile holds the parts of a norm.
func rmsFile() *asm.File {
	f := &asm.File{Package: "vec", Name: "rms", Doc: "Sums of squares, and what is multiplied and added value by value."}
	for _, level := range levels {
		sumSquares(f, level)
		weigh(f, level)
		add(f, level)
	}
	return f
}

func sumSquares(file *asm.File, level asm.Level) {
	lanes := level.Lanes()
	f := file.Func(level, "sumSquares"+level.Name+"(x *float32, n int) float32", doc(level, "sumSquares",
		fmt.Sprintf("returns Σ x[i]² in float32, for n values, a multiple of %d: x[i] in strand i mod %d, the last n mod %d in the first strands, fused; the strands are added pairwise.", lanes, 4*lanes, 4*lanes),
		" in 32 strands"))
	x, n := f.Take(asm.SI), f.Take(asm.CX)
	strands, values := f.Vectors(4), f.Vectors(4)
	f.Op("MOVQ", f.Arg("x"), x)
	f.Op("MOVQ", f.Arg("n"), n)
	clear(f, strands)
	square := func(vectors int) {
		for i, v := range values[:vectors] {
			f.Op("VMOVUPS", x.At(i*level.Bytes), v)
		}
		for i, v := range values[:vectors] {
			f.Op("VFMADD231PS", v, v, strands[i])
		}
	}
	blocks(f, n, 4*lanes, func() {
		square(4)
		f.Op("ADDQ", 4*level.Bytes, x)
	}, func() {
		if level == asm.AVX512 {
			square(1)
			f.Op("ADDQ", level.Bytes, x)
		} else {
			square(2) // 16 values
		}
	})
	s := strands
	f.Op("VADDPS", s[1], s[0], s[0])
	f.Op("VADDPS", s[3], s[2], s[2])
	f.Op("VADDPS", s[2], s[0], s[0])
	if level == asm.AVX512 {
		f.Op("VEXTRACTF64X4", 1, s[0], s[1].Y())
		f.Op("VADDPS", s[1].Y(), s[0].Y(), s[0].Y())
	}
	f.Op("VEXTRACTF128", 1, s[0].Y(), s[1].X())
	f.Op("VADDPS", s[1].X(), s[0].X(), s[0].X())
	for _, pairs := range []uint32{0x4e, 0xb1} {
		f.Op("VPERMILPS", pairs, s[0].X(), s[1].X())
		f.Op("VADDPS", s[1].X(), s[0].X(), s[0].X())
	}
	f.Op("VMOVSS", s[0].X(), f.Arg("ret"))
	f.Return()
}

func weigh(file *asm.File, level asm.Level) {
	f := file.Func(level, "weigh"+level.Name+"(dst, x, w *float32, n int, scale float32)", doc(level, "weigh",
		"sets dst[i] = x[i]·scale·(1 + w[i]), each operation rounded to float32, for n values, a multiple of 16. dst may be x.", ""))
	dst, x, w := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.DX)
	n, i, by := f.Take(asm.CX), f.Take(asm.BX), f.Take(asm.AX)
	constants, weight, value := f.Top(2), f.Vector(), f.Vector()
	scale, one := constants[0], constants[1]
	f.Op("MOVQ", f.Arg("dst"), dst)
	f.Op("MOVQ", f.Arg("x"), x)
	f.Op("MOVQ", f.Arg("w"), w)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Op("VBROADCASTSS", f.Arg("scale"), scale)
	f.BroadcastFloat(1, by, one)
	f.Each("values", i, n, level.Lanes(), func() {
		f.Op("VADDPS", w.At(0).Index(i, 4), one, weight)
		f.Op("VMULPS", x.At(0).Index(i, 4), scale, value)
		f.Op("VMULPS", weight, value, value)
		f.Op("VMOVUPS", value, dst.At(0).Index(i, 4))
	})
	f.Return()
}

func add(file *asm.File, level asm.Level) {
	f := file.Func(level, "add"+level.Name+"(sum, x *float32, n int)", doc(level, "add",
		"adds x[i] to sum[i], in float32, for n values, a multiple of 16.", ""))
	sum, x, n, i := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.BX)
	value := f.Vector()
	f.Op("MOVQ", f.Arg("sum"), sum)
	f.Op("MOVQ", f.Arg("x"), x)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Each("values", i, n, level.Lanes(), func() {
		f.Op("VMOVUPS", x.At(0).Index(i, 4), value)
		f.Op("VADDPS", sum.At(0).Index(i, 4), value, value)
		f.Op("VMOVUPS", value, sum.At(0).Index(i, 4))
	})
	f.Return()
}
