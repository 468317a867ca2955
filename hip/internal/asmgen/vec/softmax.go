package vec

import (
	"math"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// softmaxFile holds the parts of a softmax over rows of 16 columns: one vector of
// AVX-512, two of AVX2.
func softmaxFile() *asm.File {
	f := &asm.File{Package: "vec", Name: "softmax", Doc: "Maxima and exponentials of rows of 16 columns.",
		Constants: []asm.Constant{{Name: "columnsAtOnce", Value: columns}}}
	for _, level := range levels {
		columnMax(f, level)
		if level == asm.AVX512 {
			columnExp512(f)
		} else {
			columnExp256(f)
		}
		columnScale(f, level)
		firstEqual(f, level)
	}
	return f
}

const (
	columns  = 16
	rowBytes = 4 * columns
)

const docExp = "sets dst[r·step + c] = exp(x[r][c] − top[c]), see expTable, and sum[c] to the sum of these over r: " +
	"float32, row r in strand r mod 4, the last n mod 4 in the first. dst may be x; with a step of 0 the sum is what counts."

// expConstants are those of expTable, in its order.
type expConstants[V any] struct {
	least, log2e, ln2, ln2Low, c6, c5, c4, c3, c2, one V
}

func (c *expConstants[V]) all() []*V {
	return []*V{&c.least, &c.log2e, &c.ln2, &c.ln2Low, &c.c6, &c.c5, &c.c4, &c.c3, &c.c2, &c.one}
}

// exp512 sets p = exp(x − top), through r, n and the mask k.
func (c *expConstants[V]) exp512(f *asm.Func, x asm.Mem, top, r, n, p asm.Vec, k asm.Mask) {
	f.Op("VMOVUPS", x, r)
	f.Op("VSUBPS", top, r, r)
	c.exponential512(f, r, n, p, k)
}

// exponential512 sets p = exp(r), or of r and what is low beside it. It overwrites r.
func (c *expConstants[V]) exponential512(f *asm.Func, r, n, p asm.Vec, k asm.Mask, low ...asm.Vec) {
	f.Op("VCMPPS", notLess, c.least, r, k)
	f.Op("VMULPS", c.log2e, r, n)
	f.Op("VRNDSCALEPS", nearest, n, n)
	f.Op("VFNMADD231PS", c.ln2, n, r)
	f.Op("VFNMADD231PS", c.ln2Low, n, r)
	for _, l := range low {
		f.Op("VADDPS", l, r, r)
	}
	f.Op("VMOVAPS", c.c6, p)
	c.polynomial(f, r, p)
	f.Op("VSCALEFPS.Z", n, p, k, p)
}

// exp256 is exp512 with a mask k of the vector's width.
func (c *expConstants[V]) exp256(f *asm.Func, x asm.Mem, top, r, n, p, k asm.Vec) {
	f.Op("VMOVUPS", x, r)
	f.Op("VSUBPS", top, r, r)
	c.exponential256(f, r, n, p, k)
}

// exponential256 is exponential512 with a mask k of the vector's width.
func (c *expConstants[V]) exponential256(f *asm.Func, r, n, p, k asm.Vec, low ...asm.Vec) {
	f.Op("VCMPPS", notLess, c.least, r, k)
	f.Op("VMULPS", c.log2e, r, n)
	f.Op("VROUNDPS", nearest, n, n)
	f.Op("VFNMADD231PS", c.ln2, n, r)
	f.Op("VFNMADD231PS", c.ln2Low, n, r)
	for _, l := range low {
		f.Op("VADDPS", l, r, r)
	}
	f.Op("VCVTPS2DQ", n, n)
	f.Op("VMOVUPS", c.c6, p)
	c.polynomial(f, r, p)
	f.Op("VPSLLD", 23, n, n)
	f.Op("VPADDD", n, p, p)
	f.Op("VANDPS", k, p, p)
}

const (
	notLess = 0x15 // or not ordered, so that NaN stays
	nearest = 8    // even, without exceptions
)

func (c *expConstants[V]) polynomial(f *asm.Func, r, p asm.Vec) {
	for _, a := range []V{c.c5, c.c4, c.c3, c.c2, c.one, c.one} {
		f.Op("VFMADD213PS", a, r, p)
	}
}

// columnArgs loads the arguments of columnExp, with the step in bytes.
type columnArgs struct {
	dst, step, x, n, top, sum asm.GP
}

func loadColumnArgs(f *asm.Func) columnArgs {
	a := columnArgs{f.Take(asm.DI), f.Take(asm.DX), f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.AX), f.Take(asm.BX)}
	f.Op("MOVQ", f.Arg("dst"), a.dst)
	f.Op("MOVQ", f.Arg("step"), a.step)
	f.Op("MOVQ", f.Arg("x"), a.x)
	f.Op("MOVQ", f.Arg("n"), a.n)
	f.Op("MOVQ", f.Arg("top"), a.top)
	f.Op("MOVQ", f.Arg("sum"), a.sum)
	f.Op("SHLQ", 2, a.step)
	return a
}

func columnExp512(file *asm.File) {
	f := file.Func(asm.AVX512, "columnExpAVX512(dst *float32, step int, x *float32, n int, top, sum *[16]float32)", docExp)
	strands := f.Vectors(4)
	var r, n, p [4]asm.Vec
	for i := range r {
		r[i], n[i], p[i] = f.Vector(), f.Vector(), f.Vector()
	}
	masks := []asm.Mask{asm.K1, asm.K2, asm.K3, asm.K4}
	var c expConstants[asm.Vec]
	top := f.Vector()
	a := loadColumnArgs(f)
	f.Op("VMOVUPS", a.top.At(0), top)
	for i, v := range c.all() {
		*v = f.Vector()
		f.Op("VBROADCASTSS", asm.Table("expTable").Plus(4*i), *v)
	}
	clear(f, strands)
	blocks(f, a.n, 4, func() {
		for i := range r {
			c.exp512(f, a.x.At(rowBytes*i), top, r[i], n[i], p[i], masks[i])
		}
		for i, s := range strands {
			f.Op("VADDPS", p[i], s, s)
		}
		for _, v := range p {
			f.Op("VMOVUPS", v, a.dst.At(0))
			f.Op("ADDQ", a.step, a.dst)
		}
		f.Op("ADDQ", 4*rowBytes, a.x)
	}, func() {
		// The strands take turns in the first.
		c.exp512(f, a.x.At(0), top, r[0], n[0], p[0], masks[0])
		next := r[0]
		f.Op("VADDPS", p[0], strands[0], next)
		for i := range 3 {
			f.Op("VMOVAPS", strands[i+1], strands[i])
		}
		f.Op("VMOVAPS", next, strands[3])
		f.Op("VMOVUPS", p[0], a.dst.At(0))
		f.Op("ADDQ", a.step, a.dst)
		f.Op("ADDQ", rowBytes, a.x)
	})
	s := strands
	f.Op("VADDPS", s[1], s[0], s[0])
	f.Op("VADDPS", s[3], s[2], s[2])
	f.Op("VADDPS", s[2], s[0], s[0])
	f.Op("VMOVUPS", s[0], a.sum.At(0))
	f.Return()
}

// columnExp256 keeps the constants on the stack: there are too few registers.
func columnExp256(file *asm.File) {
	f := file.Func(asm.AVX2, "columnExpAVX2(dst *float32, step int, x *float32, n int, top, sum *[16]float32)",
		"is columnExpAVX512 but for the strands, r mod 2.")
	strand, other := f.Vectors(2), f.Vectors(2) // of the next row and the one after it, 8 columns each
	var r, n, p, k [2]asm.Vec
	for i := range r {
		r[i], n[i], p[i], k[i] = f.Vector(), f.Vector(), f.Vector(), f.Vector()
	}
	high := f.Top(2)
	tops := []asm.Vec{high[1], high[0]}
	var c expConstants[asm.Mem]
	slots := f.Slots(32, "least", "log2e", "ln2", "ln2Low", "c6", "c5", "c4", "c3", "c2", "one")
	for i, m := range c.all() {
		*m = slots[i]
		f.Op("VBROADCASTSS", asm.Table("expTable").Plus(4*i), strand[0])
		f.Op("VMOVUPS", strand[0], *m)
	}
	a := loadColumnArgs(f)
	for i, t := range tops {
		f.Op("VMOVUPS", a.top.At(32*i), t)
	}
	for _, v := range append(strand, other...) {
		f.Op("VXORPS", v, v, v)
	}
	f.Loop("row", a.n, func() {
		for i := range r {
			c.exp256(f, a.x.At(32*i), tops[i], r[i], n[i], p[i], k[i])
		}
		for i := range r {
			f.Op("VADDPS", p[i], strand[i], r[i])
		}
		for i := range r {
			f.Op("VMOVAPS", other[i], strand[i])
		}
		for i := range r {
			f.Op("VMOVAPS", r[i], other[i])
		}
		for i := range r {
			f.Op("VMOVUPS", p[i], a.dst.At(32*i))
		}
		f.Op("ADDQ", a.step, a.dst)
		f.Op("ADDQ", rowBytes, a.x)
	})
	for i, s := range strand {
		f.Op("VADDPS", other[i], s, s)
	}
	for i, s := range strand {
		f.Op("VMOVUPS", s, a.sum.At(32*i))
	}
	f.Return()
}

func columnMax(file *asm.File, level asm.Level) {
	f := file.Func(level, "columnMax"+level.Name+"(x *float32, n int, top *[16]float32)", doc(level, "columnMax",
		"sets top[c] to the largest number of column c of x, −Inf where there is none: NaN is passed over.", ""))
	x, n, top, by := f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.DI), f.Take(asm.AX)
	best, values := f.Vectors(4), f.Vectors(4)
	row := rowBytes / level.Bytes // vectors of it
	f.Op("MOVQ", f.Arg("x"), x)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Op("MOVQ", f.Arg("top"), top)
	f.BroadcastFloat(float32(math.Inf(-1)), by, best[0])
	for _, v := range best[1:] {
		f.Op("VMOVAPS", best[0], v)
	}
	// MAXPS takes its second operand, which is the first here, if one is NaN.
	join := func(vectors int) {
		for i, v := range values[:vectors] {
			f.Op("VMOVUPS", x.At(i*level.Bytes), v)
		}
		for i, v := range values[:vectors] {
			f.Op("VMAXPS", best[i], v, best[i])
		}
	}
	blocks(f, n, 4/row, func() {
		join(4)
		f.Op("ADDQ", 4*level.Bytes, x)
	}, func() {
		join(row)
		if level == asm.AVX512 {
			f.Op("ADDQ", rowBytes, x)
		}
	})
	if level == asm.AVX512 {
		f.Op("VMAXPS", best[1], best[0], best[0])
		f.Op("VMAXPS", best[3], best[2], best[2])
		f.Op("VMAXPS", best[2], best[0], best[0])
	} else {
		f.Op("VMAXPS", best[2], best[0], best[0])
		f.Op("VMAXPS", best[3], best[1], best[1])
	}
	for i, v := range best[:row] {
		f.Op("VMOVUPS", v, top.At(i*level.Bytes))
	}
	f.Return()
}

func columnScale(file *asm.File, level asm.Level) {
	f := file.Func(level, "columnScale"+level.Name+"(x *float32, n int, factor *[16]float32)",
		doc(level, "columnScale", "multiplies column c by factor[c].", ""))
	x, n, factor := f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.AX)
	row := rowBytes / level.Bytes
	factors, values := f.Vectors(row), f.Vectors(row)
	f.Op("MOVQ", f.Arg("x"), x)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Op("MOVQ", f.Arg("factor"), factor)
	for i, v := range factors {
		f.Op("VMOVUPS", factor.At(i*level.Bytes), v)
	}
	f.Loop("row", n, func() {
		for i, v := range values {
			f.Op("VMULPS", x.At(i*level.Bytes), factors[i], v)
		}
		for i, v := range values {
			f.Op("VMOVUPS", v, x.At(i*level.Bytes))
		}
		f.Op("ADDQ", rowBytes, x)
	})
	f.Return()
}

func firstEqual(file *asm.File, level asm.Level) {
	f := file.Func(level, "firstEqual"+level.Name+"(x *float32, n int, value float32) int", doc(level, "firstEqual",
		"returns the first index of value among the n of x, a multiple of 16, or n.", ""))
	x, n, i, equal := f.Take(asm.SI), f.Take(asm.CX), f.Take(asm.BX), f.Take(asm.AX)
	value := f.Vector()
	found := f.Label("found")
	f.Op("MOVQ", f.Arg("x"), x)
	f.Op("MOVQ", f.Arg("n"), n)
	f.Op("VBROADCASTSS", f.Arg("value"), value)
	f.Each("values", i, n, level.Lanes(), func() {
		if level == asm.AVX512 {
			f.Op("VCMPPS", 0, x.At(0).Index(i, 4), value, asm.K1)
			f.Op("KMOVW", asm.K1, equal)
		} else {
			lanes := f.Vector()
			f.Op("VCMPPS", 0, x.At(0).Index(i, 4), value, lanes)
			f.Op("VMOVMSKPS", lanes, equal)
		}
		f.Op("TESTL", equal, equal)
		f.Op("JNZ", found)
	})
	f.Op("MOVQ", n, f.Arg("ret"))
	f.Return()
	f.Mark(found)
	f.Op("BSFL", equal, equal)
	f.Op("ADDQ", equal, i)
	f.Op("MOVQ", i, f.Arg("ret"))
	f.Return()
}
