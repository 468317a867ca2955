package vec

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonAtOnce is the vectors that a turn of a loop takes: 16 values.
const neonAtOnce = 4

// neonRMSFile holds the parts of a norm for arm64, as rmsFile does for amd64.
func neonRMSFile() *asm.File {
	f := &asm.File{Package: "vec", Name: "rms", ARM64: true, Doc: "Sums of squares, and what is multiplied and added value by value."}
	neonSumSquares(f)
	neonWeigh(f)
	neonAdd(f)
	return f
}

func neonSumSquares(file *asm.File) {
	f := file.Func(asm.NEON, "sumSquaresNEON(x *float32, n int) float32",
		"returns Σ x[i]² in float32, for n values, a multiple of 16: x[i] in strand i mod 32, the last n mod 32 in the first strands, fused; the strands are added pairwise.")
	x, n := f.Register(), f.Register()
	strands, values := f.Vectors(2*neonAtOnce), f.Vectors(neonAtOnce)
	f.Op("MOVD", f.Arg("x"), x)
	f.Op("MOVD", f.Arg("n"), n)
	f.Clear(strands...)
	inTurns(f, n, 16, func(turn int) {
		f.LoadMany(x.At(0), values...)
		f.Op("ADD", 16*neonAtOnce, x)
		for i, v := range values {
			f.Op("VFMLA", v, v, strands[turn*neonAtOnce+i])
		}
	})
	for half := len(strands) / 2; half > 0; half /= 2 {
		for i := range half {
			f.Word("FADD", strands[half+i], strands[i], strands[i])
		}
	}
	sum := strands[0]
	f.Word("FADDP", sum, sum, sum)
	f.Word("FADDP", sum, sum, sum)
	f.Op("FMOVS", sum.As("F"), f.Arg("ret"))
	f.Return()
}

// inTurns repeats body as long as n, which it counts down by step, is not zero: for turns 0 and
// 1 alternately, once at least.
func inTurns(f *asm.Func, n asm.GP, step int, body func(turn int)) {
	done := f.Label("done")
	loop := f.Mark(f.Label("block"))
	body(0)
	f.Op("SUBS", step, n)
	f.Op("BEQ", done)
	body(1)
	f.Op("SUBS", step, n)
	f.Op("BNE", loop)
	f.Mark(done)
}

// values16 repeats body for each 16 values of n.
func values16(f *asm.Func, n asm.GP, body func()) {
	label := f.Mark(f.Label("values"))
	body()
	f.Op("SUBS", 4*neonAtOnce, n)
	f.Op("BNE", label)
}

func neonWeigh(file *asm.File) {
	f := file.Func(asm.NEON, "weighNEON(dst, x, w *float32, n int, scale float32)",
		"sets dst[i] = x[i]·scale·(1 + w[i]), each operation rounded to float32, for n values, a multiple of 16. dst may be x.")
	dst, x, w, n, by := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	values, weights := f.Vectors(neonAtOnce), f.Vectors(neonAtOnce)
	scale, one := f.Vector(), f.Vector()
	f.Op("MOVD", f.Arg("dst"), dst)
	f.Op("MOVD", f.Arg("x"), x)
	f.Op("MOVD", f.Arg("w"), w)
	f.Op("MOVD", f.Arg("n"), n)
	f.Op("FMOVS", f.Arg("scale"), scale.As("F"))
	f.BroadcastFloat(1, by, one)
	values16(f, n, func() {
		f.LoadMany(x.At(0), values...)
		f.LoadMany(w.At(0), weights...)
		for i, v := range values {
			f.Word("FMUL.E", scale.Lane(0), v, v)
			f.Word("FADD", one, weights[i], weights[i])
			f.Word("FMUL", weights[i], v, v)
		}
		f.StoreMany(dst.At(0), values...)
		for _, r := range []asm.GP{x, w, dst} {
			f.Op("ADD", 16*neonAtOnce, r)
		}
	})
	f.Return()
}

func neonAdd(file *asm.File) {
	f := file.Func(asm.NEON, "addNEON(sum, x *float32, n int)", "adds x[i] to sum[i], in float32, for n values, a multiple of 16.")
	sum, x, n := f.Register(), f.Register(), f.Register()
	values, sums := f.Vectors(neonAtOnce), f.Vectors(neonAtOnce)
	f.Op("MOVD", f.Arg("sum"), sum)
	f.Op("MOVD", f.Arg("x"), x)
	f.Op("MOVD", f.Arg("n"), n)
	values16(f, n, func() {
		f.LoadMany(x.At(0), values...)
		f.LoadMany(sum.At(0), sums...)
		for i, v := range values {
			f.Word("FADD", v, sums[i], sums[i])
		}
		f.StoreMany(sum.At(0), sums...)
		f.Op("ADD", 16*neonAtOnce, x)
		f.Op("ADD", 16*neonAtOnce, sum)
	})
	f.Return()
}
