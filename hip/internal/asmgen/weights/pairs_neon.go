package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonPairsFile holds the products of pairs of bfloat16 for arm64, as pairsFile does for
// amd64, with x as one bfloat16 and in the order of the columns for all formats. As two it
// would take as long as products in float32: BFDOT adds twice as many products as FMLA.
// It takes what is subnormal as zero, and rounds the sum of a pair, and what that is added
// to, to odd.
func neonPairsFile() *asm.File {
	f := neonFile("pairs", "Products of rows, as they are stored, with one to four rows of x as bfloat16.",
		asm.Constant{Name: "maxPairs", Value: pairsMost}, asm.Constant{Name: "pairsRows", Value: pairsRows},
		asm.Constant{Name: "chunkColumns", Value: chunk})
	for n := 1; n <= pairsMost; n++ {
		neonPairs(f, "BF16", n, neonPairsBF16)
		neonPairs(f, "MXFP8", n, neonPairsMXFP8)
	}
	return f
}

// neonPairsFunc is a function of neonPairsFile, while it is written.
type neonPairsFunc struct {
	*asm.Func
	rows, n    int // of weights, and of x
	ws, ss, xs []asm.GP
	chunks     asm.GP
	lent       neonLent
	ahead      int

	// What the format sets.
	sums          []asm.Vec // [rows][n], in the end
	chunksOfGroup func()
	totals        func() // after all chunks
}

func neonPairs(file *asm.File, format string, n int, body func(f *neonPairsFunc)) {
	rows := sideBySide(format, n)
	f := &neonPairsFunc{rows: rows, n: n, ahead: prefetchRows}
	if n == 1 {
		f.ahead = prefetchRowsAlone
	}
	f.Func = file.Func(asm.NEON, fmt.Sprintf("pairs%dx1%sNEON(a *pairsArgs)", n, format), fmt.Sprintf(
		"computes y[j][i] = Σ w[j][c]·x[i][c] for i < %d, x as one part, and groups of %d rows stored as %s: products of pairs of columns, in lanes of float32.",
		n, rows, format))
	args, firstW, firstScale, groups, y := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	rowStride, scaleStride := f.Register(), f.Register()
	f.chunks = f.Register()
	f.ws, f.ss, f.xs = f.Registers(rows), f.Registers(rows), f.Registers(n)
	f.lent = neonLent{scales: f.Register(), code: f.Register()}
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f.Func, args, []loaded{{"w", firstW}, {"scale", firstScale}, {"groups", groups}, {"y", y},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}})
	body(f)
	f.Loop("group", groups, func() {
		rowsApart(f.Func, firstW, rowStride, f.ws)
		rowsApart(f.Func, firstScale, scaleStride, f.ss)
		f.Op("MOVD", f.Field(args, "x"), f.xs[0])
		f.Op("MOVD", f.Field(args, "xStride"), f.lent.code)
		rowsApart(f.Func, f.xs[0], f.lent.code, f.xs)
		f.Op("MOVD", f.Field(args, "chunks"), f.chunks)
		f.chunksOfGroup()
		if rows == 1 {
			sum := f.sums[0]
			f.Word("FADDP", sum, sum, sum)
			f.Word("FADDP", sum, sum, sum)
			call(f.totals)
			f.Op("FMOVS", sum.As("F"), y.At(0))
		} else {
			for i := 0; i < len(f.sums); i += 4 {
				of := f.sums[i : i+4]
				f.Word("FADDP", of[1], of[0], of[0])
				f.Word("FADDP", of[3], of[2], of[2])
				f.Word("FADDP", of[2], of[0], f.sums[i/4])
			}
			f.sums = f.sums[:len(f.sums)/4]
			call(f.totals)
			f.StoreMany(y.At(0), f.sums...)
		}
		f.Op("ADD", 4*rows*n, y)
		for range rows {
			f.Op("ADD", rowStride, firstW)
			f.Op("ADD", scaleStride, firstScale)
		}
	})
	f.Return()
}

// move goes on to the next chunk.
func (f *neonPairsFunc) move(stored, scales int) {
	for j := range f.rows {
		f.Op("ADD", stored, f.ws[j])
		if scales > 0 {
			f.Op("ADD", scales, f.ss[j])
		}
	}
	for _, x := range f.xs {
		f.Op("ADD", 2*chunk, x)
	}
}

// neonPairsBF16 multiplies bfloat16 as they are stored, 16 columns at a time.
func neonPairsBF16(f *neonPairsFunc) {
	const vectors = 2
	strands := 1
	if f.n == 1 {
		strands = 2
	}
	all := f.Vectors(f.rows * f.n * strands)
	f.sums = all[:f.rows*f.n]
	weights := f.Vectors(vectors)
	var xs [][]asm.Vec
	for range f.n {
		xs = append(xs, f.Vectors(vectors))
	}
	f.chunksOfGroup = func() {
		f.Clear(all...)
		f.Loop("chunk", f.chunks, func() {
			for _, w := range f.ws {
				f.Prefetch(w.At(f.ahead))
				f.Prefetch(w.At(f.ahead + 64))
			}
			for c := 0; c < chunk; c += 8 * vectors {
				for i, x := range xs {
					f.LoadMany(f.xs[i].At(2*c), x...)
				}
				for j, w := range f.ws {
					f.LoadMany(w.At(2*c), weights...)
					for k, v := range weights {
						for i, x := range xs {
							f.Word("BFDOT", x[k], v, all[k%strands*f.rows*f.n+j*f.n+i])
						}
					}
				}
			}
			f.move(2*chunk, 0)
		})
		for i := len(f.sums); i < len(all); i++ {
			f.Word("FADD", all[i], all[i-len(f.sums)], all[i-len(f.sums)])
		}
	}
}

// neonPairsMXFP8 multiplies the sums of 32 columns by their scale. A code becomes bfloat16 by
// way of half precision and float32, 2^8 too small; where NaN is among the codes all
// results are.
func neonPairsMXFP8(f *neonPairsFunc) {
	f.sums = f.Vectors(f.rows * f.n)
	weights, x, blocks := f.Vectors(4), f.Vectors(2), f.Vectors(f.n)
	factor, spare := f.Vector(), f.Vectors(2)
	h := newNEONHalves(f.Func)
	f.LoadTable("e8m0", f.lent.scales)
	sums := f.sums
	f.chunksOfGroup = func() {
		f.Clear(append(append([]asm.Vec{}, sums...), h.largest)...)
		f.Loop("chunk", f.chunks, func() {
			for j, w := range f.ws {
				f.Prefetch(w.At(f.ahead))
				for i := 0; i < chunk; i += 32 {
					f.LoadMany(w.At(i), spare...)
					for _, s := range spare {
						h.note(f.Func, s, s)
					}
				}
				for block := range chunk / 32 {
					f.Clear(blocks...)
					for c := 32 * block; c < 32*block+32; c += 16 {
						f.Load(w.At(c), weights[3])
						h.words(f.Func, weights)
						for i, b := range blocks {
							f.LoadMany(f.xs[i].At(2*c), x...)
							for k, v := range []asm.Vec{weights[0], weights[2]} {
								f.Word("BFDOT", x[k], v, b)
							}
						}
					}
					f.lent.lookUp(f.Func, f.ss[j].At(block), factor)
					for i, b := range blocks {
						f.Word("FMLA.E", factor.Lane(0), b, sums[j*f.n+i])
					}
				}
			}
			f.move(chunk, chunk/32)
		})
	}
	f.totals = func() {
		f.LoadTable("two8", f.lent.code)
		f.Load(f.lent.code.At(0), factor)
		for _, s := range f.sums {
			f.Word("FMUL", factor, s, s)
		}
		numbers := f.Label("numbers")
		h.numbers(f.Func, f.lent.code, numbers)
		for _, s := range f.sums {
			f.Op("VCMEQ", s, s, s) // all ones are NaN
		}
		f.Mark(numbers)
	}
}

// words makes bfloat16, 2^8 too small, of the 16 codes in the last of four vectors: in the
// first and in the third.
func (h neonHalves) words(f *asm.Func, v []asm.Vec) {
	h.widen(f, v)
	for i := 0; i < 4; i += 2 {
		upperHalves(f, v[i:i+2], v[i])
	}
}

// upperHalves sets a vector to the upper halves of two.
func upperHalves(f *asm.Func, of []asm.Vec, to asm.Vec) {
	f.Op("VUZP2", of[1].As("H8"), of[0].As("H8"), to.As("H8"))
}
