package main

import "fmt"

// decoder makes float32 vectors of a chunk of stored weights.
type decoder struct {
	format string
	stored int  // bytes of a value
	scale  int  // bytes of a scale of 32 columns; 0: none
	short8 bool // values are 2^8 too small
	setup  func(constants int)
	// chunk calls use with the registers, from first on, that hold the vectors of
	// the chunk, in the order of the columns, times their scale. at and scale
	// give the operands of bytes of the row and of its scales.
	chunk func(constants, first int, at, scale func(off int) string, use func(i, register int))
	// finish, if there is one, puts the outcome of a search for NaN into flags
	// and jumps to label if there was none.
	finish func(constants int, label string)
}

// decoders returns those of a width. R9 and CX are theirs.
func (g *generator) decoders(v vectors) []decoder {
	plain := func(load func(at string, r int), stored int) func(int, int, func(int) string, func(int) string, func(int, int)) {
		return func(_, first int, at, _ func(int) string, use func(int, int)) {
			for i := range chunk / v.lanes() {
				r := first + i%2
				load(at(i*v.lanes()*stored), r)
				use(i, r)
			}
		}
	}
	return []decoder{
		{format: "F32", stored: 4, chunk: plain(func(at string, r int) { g.op("VMOVUPS %s, %s", at, v.r(r)) }, 4)},
		{format: "F16", stored: 2, chunk: plain(func(at string, r int) { g.op("VCVTPH2PS %s, %s", at, v.r(r)) }, 2)},
		{format: "BF16", stored: 2, chunk: plain(func(at string, r int) {
			g.op("VPMOVZXWD %s, %s", at, v.r(r))
			g.op("VPSLLD $16, %s, %s", v.r(r), v.r(r))
		}, 2)},
		g.halfDecoder(v),
		g.integerDecoder(v),
	}
}

// dotsShape is the rows of weights and the most rows of x of a function of dotsOf.
func dotsShape(v vectors) (rows, most int) {
	if v.bytes == 32 { // 16 registers
		return 2, 4
	}
	return 4, 4
}

// dotsOf writes functions that multiply rows of stored weights, some side by side,
// with one to four vectors:
//
//	y[j][i] = Σ w[j][c] · x[i][c]
//
// The registers are R11, stride R8, R14: weights of rows 0, 1, 2 and 3; R12,
// stride R13, R15: their scales; SI, stride BX, DX: x; R10: chunks left. Sums are
// in the first registers, in the order of y.
func (g *generator) dotsOf(v vectors, name string, d decoder) {
	rows, most := dotsShape(v)
	weights := []string{"(R11)", "(R11)(R8*1)", "(R11)(R8*2)", "(R14)"}
	scales := []string{"(R12)", "(R12)(R13*1)", "(R12)(R13*2)", "(R15)"}
	xs := []string{"(SI)", "(SI)(BX*1)", "(SI)(BX*2)", "(DX)"}
	for n := 1; n <= most; n++ {
		doc := fmt.Sprintf("computes y[j][i] = Σ w[j][c]·x[i][c] for i < %d and rows stored as %s,\n"+
			"// a multiple of %d: products and sums in float32, column c in lane c mod %d.", n, d.format, rows, v.lanes())
		g.function(fmt.Sprintf("dots%d%s%s", n, d.format, name), "dotsArgs", 0, doc)
		first := rows * n // of the other registers
		ahead := prefetchRows
		if n == 1 {
			ahead = prefetchRowsAlone
		}
		constants := first + 4
		g.save(80, 0, 8, 24)
		call2(d.setup, constants)
		g.op("MOVQ 48(DI), R8")
		g.op("MOVQ 56(DI), R13")
		g.op("MOVQ 64(DI), BX")
		g.loop("32(DI)", func() {
			for i := range rows * n {
				g.clear(v, i)
			}
			g.op("MOVQ 0(DI), R11")
			g.op("MOVQ 8(DI), R12")
			g.op("LEAQ (R11)(R8*2), R14")
			g.op("ADDQ R8, R14")
			g.op("LEAQ (R12)(R13*2), R15")
			g.op("ADDQ R13, R15")
			g.op("MOVQ 16(DI), SI")
			g.op("LEAQ (SI)(BX*2), DX")
			g.op("ADDQ BX, DX")
			g.op("MOVQ 40(DI), R10")
			g.loop("R10", func() {
				for j := range rows {
					for off := 0; off < d.stored*chunk; off += 64 {
						g.op("PREFETCHT0 %d%s", ahead+off, weights[j])
					}
					at := func(off int) string { return fmt.Sprintf("%d%s", off, weights[j]) }
					scale := func(off int) string { return fmt.Sprintf("%d%s", off, scales[j]) }
					d.chunk(constants, first, at, scale, func(i, r int) {
						for k := range n {
							g.op("VFMADD231PS %d%s, %s, %s", i*v.bytes, xs[k], v.r(r), v.r(j*n+k))
						}
					})
				}
				g.op("ADDQ $%d, R11", d.stored*chunk)
				g.op("ADDQ $%d, R14", d.stored*chunk)
				if d.scale > 0 {
					g.op("ADDQ $%d, R12", d.scale*chunk/32)
					g.op("ADDQ $%d, R15", d.scale*chunk/32)
				}
				g.op("ADDQ $%d, SI", 4*chunk)
				g.op("ADDQ $%d, DX", 4*chunk)
			})
			g.op("MOVQ 24(DI), CX")
			for i := 0; i < rows*n; i += 4 {
				g.sumFour(v, i, min(4, rows*n-i), first)
				if d.short8 {
					g.op("VMULPS two8<>(SB), X%d, X%d", i, i)
				}
				g.op("VMOVUPS X%d, %d(CX)", i, 4*i)
			}
			g.op("ADDQ $%d, CX", 4*rows*n)
			g.op("MOVQ CX, 24(DI)")
			for range rows {
				g.op("ADDQ R8, 0(DI)")
				g.op("ADDQ R13, 8(DI)")
			}
		})
		g.restore(80, 0, 8, 24)
		if d.finish != nil {
			l := g.labels("numbers")
			d.finish(constants, l[0])
			g.op("MOVQ $1, 72(DI)")
			g.mark(l[0])
		}
		g.ret()
	}
}

func call2(f func(int), i int) {
	if f != nil {
		f(i)
	}
}
