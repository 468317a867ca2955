package main

import "fmt"

// chunk is the columns that one turn of a dot or decode loop takes, whatever
// the width of the vectors.
const chunk = 64

// How many bytes ahead of their use weights are asked for, as measured: for the first
// cache, and where many rows are read one after the other for the second cache in a
// page or two, since the processor follows a stream only within a page.
const (
	prefetchRow       = 2048
	prefetchRowFar    = 8192
	prefetchRowsAlone = 1024 // rows side by side, for one row of x, or a row by itself
	prefetchRows      = 512
)

// dotBody is what is particular to the dot product of a format.
type dotBody struct {
	setup  func() // before the first row
	row    func() // before each row
	chunk  func() // multiplies a chunk and moves R11 and R12 on
	finish func() // with the row's sum in X0
}

// accumulator is the first of the four registers in which a row is summed.
const accumulator = 4

// dot writes a function that multiplies rows of stored weights with one vector:
//
//	y[j] = Σ w[j][c] · x[c]
//
// The registers are AX, BX: weights and scales of the row; R11, R12, SI: weights,
// scales and x of the chunk; DX: y; R8: rows left; R10: chunks left.
func (g *generator) dot(v vectors, name, doc string, f dotBody) {
	g.function(name, "dotArgs", 0, doc)
	g.op("MOVQ 0(DI), AX")
	g.op("MOVQ 8(DI), BX")
	g.op("MOVQ 24(DI), DX")
	g.op("MOVQ 32(DI), R8")
	call(f.setup)
	g.loop("R8", func() {
		for i := range 4 {
			g.clear(v, accumulator+i)
		}
		call(f.row)
		g.op("MOVQ AX, R11")
		g.op("MOVQ BX, R12")
		g.op("MOVQ 16(DI), SI")
		g.op("MOVQ 40(DI), R10")
		g.loop("R10", func() {
			f.chunk()
			g.op("ADDQ $%d, SI", 4*chunk)
		})
		a := accumulator
		g.op("VADDPS %s, %s, %s", v.r(a+1), v.r(a), v.r(a))
		g.op("VADDPS %s, %s, %s", v.r(a+3), v.r(a+2), v.r(a+2))
		g.op("VADDPS %s, %s, %s", v.r(a+2), v.r(a), v.r(a))
		g.sumOf(v, a)
		call(f.finish)
		g.op("VMOVSS X0, (DX)")
		g.op("ADDQ $4, DX")
		g.op("ADDQ 48(DI), AX")
		g.op("ADDQ 56(DI), BX")
	})
	g.ret()
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// clear sets register i to zero.
func (g *generator) clear(v vectors, i int) { g.op("%s %s, %s, %s", v.xor, v.r(i), v.r(i), v.r(i)) }

// sumOf adds up the lanes of register from into X0, halving the vector each
// time. Register 1 is overwritten too.
func (g *generator) sumOf(v vectors, from int) {
	const t = 1
	if v.bytes == 64 {
		g.op("VEXTRACTF64X4 $1, Z%d, Y%d", from, t)
		g.op("VADDPS Y%d, Y%d, Y0", t, from)
		from = 0
	}
	g.op("VEXTRACTF128 $1, Y%d, X%d", from, t)
	g.op("VADDPS X%d, X%d, X0", t, from)
	g.op("VPSHUFD $0x4e, X0, X%d", t)
	g.op("VADDPS X%d, X0, X0", t)
	g.op("VPSHUFD $0xb1, X0, X%d", t)
	g.op("VADDPS X%d, X0, X0", t)
}

// prefetches asks for bytes that the row's cursor R11 reaches later.
func (g *generator) prefetches(bytes int) {
	for off := 0; off < bytes; off += 64 {
		g.op("PREFETCHT0 %d(R11)", prefetchRow+off)
		g.op("PREFETCHT1 %d(R11)", prefetchRowFar+off)
	}
}

// dots writes the dot products of a width.
func (g *generator) dots(v vectors) {
	const doc = "computes y[j] = Σ w[j][c]·x[c] for rows stored as %s: products and\n" +
		"// sums in float32, column c in lane c mod %d of sum c/%d mod 4."
	for _, f := range []struct {
		format string
		bytes  int // of a stored value
		load   func(at string, r int)
	}{
		{"F32", 4, func(at string, r int) { g.op("VMOVUPS %s, %s", at, v.r(r)) }},
		{"F16", 2, func(at string, r int) { g.op("VCVTPH2PS %s, %s", at, v.r(r)) }},
		{"BF16", 2, func(at string, r int) {
			g.op("VPMOVZXWD %s, %s", at, v.r(r))
			g.op("VPSLLD $16, %s, %s", v.r(r), v.r(r))
		}},
	} {
		g.dot(v, "dot"+f.format+v.name, fmt.Sprintf(doc, f.format, v.lanes(), v.lanes()), dotBody{chunk: func() {
			for off := 0; off < chunk*f.bytes; off += 64 { // few rows: others are read side by side
				g.op("PREFETCHT0 %d(R11)", prefetchRowsAlone+off)
			}
			for i := range chunk / v.lanes() {
				f.load(fmt.Sprintf("%d(R11)", i*v.lanes()*f.bytes), i%4)
				g.op("VFMADD231PS %d(SI), %s, %s", i*v.bytes, v.r(i%4), v.r(accumulator+i%4))
			}
			g.op("ADDQ $%d, R11", chunk*f.bytes)
		}})
	}
	g.dotMXFP8(v)
	g.dotINT8(v)
}

// dotMXFP8 is for processors without byte permutations: e4m3 is widened by way
// of half precision, and only the codes of NaN need care.
func (g *generator) dotMXFP8(v vectors) {
	doc := "computes y[j] = Σ w[j][c]·x[c] for rows stored as MXFP8: products and\n" +
		"// their sums over 32 columns in float32, by lanes, times the scale, added up in\n" +
		"// float32."
	h := halves{largest: 9, exponent: 10, sign: 11}
	g.dot(v, "dotMXFP8"+v.name, doc, dotBody{
		setup: func() {
			g.op("LEAQ e8m0<>(SB), R9")
			g.halfConstants(v, h)
		},
		row: func() { g.clear(v, h.largest) },
		chunk: func() {
			g.prefetches(chunk)
			g.noteNaN(v, h, atR11, 0)
			for block := range chunk / 32 {
				g.op("MOVBLZX %d(R12), CX", block)
				for i := range 32 / v.lanes() {
					off := 32*block + i*v.lanes()
					if i%2 == 0 {
						g.widenHalf(v, h, fmt.Sprintf("%d(R11)", off), 2)
					}
					if i == 0 {
						g.op("VMULPS %d(SI), %s, %s", 4*off, v.r(2), v.r(0))
					} else {
						g.op("VFMADD231PS %d(SI), %s, %s", 4*off, v.r(2+i%2), v.r(0))
					}
				}
				g.addScaled(v, 0, accumulator+block)
			}
			g.op("ADDQ $%d, R11", chunk)
			g.op("ADDQ $%d, R12", chunk/32)
		},
		finish: func() {
			l := g.labels("numbers")
			g.op("VMULSS two8<>(SB), X0, X0")
			g.skipUnlessNaN(v, h, l[0])
			g.op("VMOVSS quietNaN<>(SB), X0")
			g.mark(l[0])
		},
	})
}

// sumFour adds up the lanes of count ≤ 4 registers from first on, into the lanes of
// X register first, with three temporary ones.
func (g *generator) sumFour(v vectors, first, count, temporary int) {
	of := func(i int) string { return v.r(first + i%count) }
	t0, t1, t2 := temporary, temporary+1, temporary+2
	for i, t := range []int{t0, t1} {
		g.op("VUNPCKLPS %s, %s, %s", of(2*i+1), of(2*i), v.r(t))
		g.op("VUNPCKHPS %s, %s, %s", of(2*i+1), of(2*i), v.r(t2))
		g.op("VADDPS %s, %s, %s", v.r(t2), v.r(t), v.r(t))
	}
	g.op("VUNPCKLPD %s, %s, %s", v.r(t1), v.r(t0), v.r(first))
	g.op("VUNPCKHPD %s, %s, %s", v.r(t1), v.r(t0), v.r(t2))
	g.op("VADDPS %s, %s, %s", v.r(t2), v.r(first), v.r(first))
	if v.bytes == 64 {
		g.op("VEXTRACTF64X4 $1, Z%d, Y%d", first, t0)
		g.op("VADDPS Y%d, Y%d, Y%d", t0, first, first)
		g.op("VEXTRACTF32X4 $1, Y%d, X%d", first, t0)
	} else {
		g.op("VEXTRACTF128 $1, Y%d, X%d", first, t0)
	}
	g.op("VADDPS X%d, X%d, X%d", t0, first, first)
}

// dotINT8 is the like for 8-bit integers.
func (g *generator) dotINT8(v vectors) {
	doc := "computes y[j] = Σ w[j][c]·x[c] for rows stored as INT8: products and\n" +
		"// their sums over 32 columns in float32, by lanes, times the scale, added up in\n" +
		"// float32."
	g.dot(v, "dotINT8"+v.name, doc, dotBody{chunk: func() {
		g.prefetches(chunk)
		for block := range chunk / 32 {
			for i := range 32 / v.lanes() {
				off, r := 32*block+i*v.lanes(), 2+i%2
				g.op("VPMOVSXBD %d(R11), %s", off, v.r(r))
				g.op("VCVTDQ2PS %s, %s", v.r(r), v.r(r))
				if i == 0 {
					g.op("VMULPS %d(SI), %s, %s", 4*off, v.r(r), v.r(0))
				} else {
					g.op("VFMADD231PS %d(SI), %s, %s", 4*off, v.r(r), v.r(0))
				}
			}
			g.bf16Scale(v, fmt.Sprintf("%d(R12)", 2*block), 1)
			g.op("VFMADD231PS %s, %s, %s", v.r(1), v.r(0), v.r(accumulator+2*block))
		}
		g.op("ADDQ $%d, R11", chunk)
		g.op("ADDQ $%d, R12", 2*chunk/32)
	}})
}

// bf16Scale sets all lanes of a register to a bfloat16, which is the upper half of a
// float32.
func (g *generator) bf16Scale(v vectors, at string, register int) {
	g.op("MOVWLZX %s, CX", at)
	g.op("SHLL $16, CX")
	g.op("VMOVD CX, X%d", register)
	g.op("VBROADCASTSS X%d, %s", register, v.r(register))
}

// addScaled adds register sum, times the scale whose code is in CX, to an
// accumulator.
func (g *generator) addScaled(v vectors, sum, accumulator int) {
	if v.bytes == 64 {
		g.op("VFMADD231PS.BCST (R9)(CX*4), %s, %s", v.r(sum), v.r(accumulator))
		return
	}
	g.op("VBROADCASTSS (R9)(CX*4), %s", v.r(1))
	g.op("VFMADD231PS %s, %s, %s", v.r(1), v.r(sum), v.r(accumulator))
}

// dotMXFP8Table looks the upper and lower bytes of bfloat16 up.
func (g *generator) dotMXFP8Table() {
	doc := "is dotMXFP8AVX512 for processors with byte permutations."
	g.dot(avx512, "dotMXFP8VBMI", doc, dotBody{
		setup: func() {
			g.op("LEAQ e8m0<>(SB), R9")
			g.lookupConstants("floatOrder", "e4m3High")
		},
		chunk: func() {
			g.prefetches(chunk)
			g.lookup("(R11)", 0)
			g.widenWords(2, 8)
			for block := range chunk / 32 {
				g.op("MOVBLZX %d(R12), CX", block)
				g.op("VMULPS %d(SI), Z%d, Z%d", 128*block, 8+2*block, 8+2*block)
				g.op("VFMADD231PS %d(SI), Z%d, Z%d", 128*block+64, 9+2*block, 8+2*block)
				g.addScaled(avx512, 8+2*block, accumulator+block)
			}
			g.op("ADDQ $%d, R11", chunk)
			g.op("ADDQ $%d, R12", chunk/32)
		},
	})
}
