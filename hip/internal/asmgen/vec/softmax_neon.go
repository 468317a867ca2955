package vec

import (
	"math"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonSoftmaxFile holds the parts of a softmax over rows of 16 columns, four vectors, for
// arm64, as softmaxFile does for amd64.
func neonSoftmaxFile() *asm.File {
	f := &asm.File{Package: "vec", Name: "softmax", ARM64: true, Doc: "Maxima and exponentials of rows of 16 columns.",
		Constants: []asm.Constant{{Name: "columnsAtOnce", Value: columns}}}
	neonColumnMax(f)
	neonColumnExp(f)
	neonColumnScale(f)
	neonFirstEqual(f)
	return f
}

// neonExp is the registers of an exponential.
type neonExp struct{ r, n, p, q, k asm.Vec }

// neon sets q = exp(r − top) for vectors side by side. FRINTN and FCVTNS round to nearest
// even.
func (c *expConstants[V]) neon(f *asm.Func, top []asm.Vec, vectors []neonExp) {
	each := func(step func(i int, v *neonExp)) {
		for i := range vectors {
			step(i, &vectors[i])
		}
	}
	each(func(i int, v *neonExp) { f.Word("FSUB", top[i], v.r, v.r) })
	each(func(_ int, v *neonExp) { f.Word("FCMGT", v.r, c.least, v.k) }) // not of NaN, which stays
	each(func(_ int, v *neonExp) { f.Word("FMUL", c.log2e, v.r, v.n) })
	each(func(_ int, v *neonExp) { f.Word("FRINTN", v.n, v.n) })
	each(func(_ int, v *neonExp) { f.Op("VFMLS", c.ln2, v.n, v.r) })
	each(func(_ int, v *neonExp) { f.Op("VFMLS", c.ln2Low, v.n, v.r) })
	each(func(_ int, v *neonExp) { f.Word("FCVTNS", v.n, v.n) })
	each(func(_ int, v *neonExp) { f.Op("VSHL", 23, v.n, v.n) })
	// The polynomial takes turns in p and q: what is added to is overwritten.
	each(func(_ int, v *neonExp) { move(f, c.c5, v.p) })
	each(func(_ int, v *neonExp) { f.Op("VFMLA", c.c6, v.r, v.p) })
	for _, a := range []V{c.c4, c.c3, c.c2, c.one, c.one} {
		each(func(_ int, v *neonExp) { move(f, a, v.q) })
		each(func(_ int, v *neonExp) { f.Op("VFMLA", v.p, v.r, v.q) })
		each(func(_ int, v *neonExp) { v.p, v.q = v.q, v.p })
	}
	each(func(_ int, v *neonExp) { f.Op("VADD", v.n, v.p, v.q) })
	each(func(_ int, v *neonExp) { f.Word("BIC", v.k, v.q, v.q) })
}

func move(f *asm.Func, from any, to asm.Vec) {
	v := from.(asm.Vec).As("B16")
	f.Op("VORR", v, v, to.As("B16"))
}

func neonColumnExp(file *asm.File) {
	f := file.Func(asm.NEON, "columnExpNEON(dst *float32, step int, x *float32, n int, top, sum *[16]float32)",
		"sets dst[r·step + c] = exp(x[r][c] − top[c]), see expTable, and sum[c] to the sum of these over r: "+
			"float32, row r in strand r mod 2. dst may be x; with a step of 0 the sum is what counts.")
	dst, step, x, n, top, sum := f.Register(), f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	strands := [2][]asm.Vec{f.Vectors(neonAtOnce), f.Vectors(neonAtOnce)}
	tops := f.Vectors(neonAtOnce)
	var c expConstants[asm.Vec]
	for _, v := range c.all() {
		*v = f.Vector()
	}
	vectors := make([]neonExp, 2)
	for i := range vectors {
		vectors[i] = neonExp{f.Vector(), f.Vector(), f.Vector(), f.Vector(), f.Vector()}
	}
	for name, to := range []asm.GP{dst, step, x, n, top, sum} {
		f.Op("MOVD", f.Arg([]string{"dst", "step", "x", "n", "top", "sum"}[name]), to)
	}
	f.Op("LSL", 2, step)
	f.LoadMany(top.At(0), tops...)
	f.LoadTable("expTable", top)
	for _, v := range c.all() {
		f.Op("VLD1R.P", top.At(4), "["+v.String()+"]")
	}
	f.Clear(append(strands[0], strands[1]...)...)
	inTurns(f, n, 1, func(turn int) {
		for i := 0; i < neonAtOnce; i += len(vectors) {
			f.LoadMany(x.At(16*i), vectors[0].r, vectors[1].r)
			c.neon(f, tops[i:], vectors)
			for k, v := range vectors {
				s := strands[turn][i+k]
				f.Word("FADD", v.q, s, s)
			}
			f.StoreMany(dst.At(16*i), vectors[0].q, vectors[1].q)
		}
		f.Op("ADD", rowBytes, x)
		f.Op("ADD", step, dst)
	})
	for i, s := range strands[0] {
		f.Word("FADD", strands[1][i], s, s)
	}
	f.StoreMany(sum.At(0), strands[0]...)
	f.Return()
}

func neonColumnMax(file *asm.File) {
	f := file.Func(asm.NEON, "columnMaxNEON(x *float32, n int, top *[16]float32)",
		"sets top[c] to the largest number of column c of x, −Inf where there is none: NaN is passed over.")
	x, n, top, by := f.Register(), f.Register(), f.Register(), f.Register()
	best, values, larger := f.Vectors(neonAtOnce), f.Vectors(neonAtOnce), f.Vectors(neonAtOnce)
	f.Op("MOVD", f.Arg("x"), x)
	f.Op("MOVD", f.Arg("n"), n)
	f.Op("MOVD", f.Arg("top"), top)
	for _, b := range best {
		f.BroadcastFloat(float32(math.Inf(-1)), by, b)
	}
	// FMAXNM would take a signaling NaN.
	f.Loop("row", n, func() {
		f.LoadMany(x.At(0), values...)
		f.Op("ADD", rowBytes, x)
		for i, v := range values {
			f.Word("FCMGT", best[i], v, larger[i])
		}
		for i, v := range values {
			f.Op("VBIT", larger[i].As("B16"), v.As("B16"), best[i].As("B16"))
		}
	})
	f.StoreMany(top.At(0), best...)
	f.Return()
}

func neonColumnScale(file *asm.File) {
	f := file.Func(asm.NEON, "columnScaleNEON(x *float32, n int, factor *[16]float32)", "multiplies column c by factor[c].")
	x, n, factor := f.Register(), f.Register(), f.Register()
	factors, values := f.Vectors(neonAtOnce), f.Vectors(neonAtOnce)
	f.Op("MOVD", f.Arg("x"), x)
	f.Op("MOVD", f.Arg("n"), n)
	f.Op("MOVD", f.Arg("factor"), factor)
	f.LoadMany(factor.At(0), factors...)
	f.Loop("row", n, func() {
		f.LoadMany(x.At(0), values...)
		for i, v := range values {
			f.Word("FMUL", factors[i], v, v)
		}
		f.StoreMany(x.At(0), values...)
		f.Op("ADD", rowBytes, x)
	})
	f.Return()
}

// neonFirstEqual looks for the 16 values that have the one, and then among them.
func neonFirstEqual(file *asm.File) {
	f := file.Func(asm.NEON, "firstEqualNEON(x *float32, n int, value float32) int",
		"returns the first index of value among the n of x, a multiple of 16, or n.")
	x, n, first, any := f.Register(), f.Register(), f.Register(), f.Register()
	value, values := f.Vector(), f.Vectors(neonAtOnce)
	one := f.Vector()
	found, none := f.Label("found"), f.Label("none")
	f.Op("MOVD", f.Arg("x"), x)
	f.Op("MOVD", f.Arg("n"), n)
	f.Op("MOVD", x, first)
	f.Op("FMOVS", f.Arg("value"), one.As("F"))
	f.Op("VDUP", one.As("S").Lane(0), value)
	values16(f, n, func() {
		f.LoadMany(x.At(0), values...)
		for _, v := range values {
			f.Word("FCMEQ", value, v, v)
		}
		for half := len(values) / 2; half > 0; half /= 2 {
			for i := range half {
				f.Op("VORR", values[half+i].As("B16"), values[i].As("B16"), values[i].As("B16"))
			}
		}
		f.Word("UMAXV", values[0], values[0])
		f.Op("VMOV", values[0].As("B").Lane(0), any)
		f.Op("CBNZ", any, found)
		f.Op("ADD", 16*neonAtOnce, x)
	})
	f.Op("B", none)
	f.Mark(found)
	f.Op("FMOVS", x.At(0), values[0].As("F"))
	f.Op("FCMPS", one.As("F"), values[0].As("F"))
	f.Op("BEQ", none)
	f.Op("ADD", 4, x)
	f.Op("B", found)
	f.Mark(none)
	f.Op("SUB", first, x)
	f.Op("LSR", 2, x)
	f.Op("MOVD", x, f.Arg("ret"))
	f.Return()
}
