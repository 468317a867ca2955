package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonPairsFile holds the products of pairs of bfloat16 for arm64, as pairsFile does for
// amd64, with x as one bfloat16 and in the order of the columns for all formats. As two it
// would take one row as long as products in float32: BFDOT adds twice as many products as
// FMLA. It takes what is subnormal as zero, and rounds the sum of a pair, and what that is
// added to, to odd. Several rows of x are multiplied by BFMMLA, see neonMatrix.
func neonPairsFile() *asm.File {
	f := neonFile("pairs", "Products of rows, as they are stored, with one row of x as bfloat16, and with pairs of them.",
		asm.Constant{Name: "maxPairs", Value: pairsMost}, asm.Constant{Name: "pairsRows", Value: pairsRows},
		asm.Constant{Name: "chunkColumns", Value: chunk})
	neonPairs(f, "BF16", neonPairsBF16)
	neonPairs(f, "MXFP8", neonPairsMXFP8)
	for n := 1; n <= pairsMost; n++ {
		neonMatrix(f, "BF16", n, neonMatrixBF16)
		neonMatrix(f, "MXFP8", n, neonMatrixMXFP8)
	}
	return f
}

// neonPairsFunc is a function of neonPairsFile, while it is written.
type neonPairsFunc struct {
	*asm.Func
	rows, n    int // of weights, and of x, or pairs of them
	ws, ss, xs []asm.GP
	chunks     asm.GP
	lent       neonLent
	ahead      int

	// What the format sets.
	sums          []asm.Vec // [rows] or [pairs of rows][n], in the end
	chunksOfGroup func()
	totals        func() // after all chunks; may be nil
}

// groups writes a function: what the format does with each group of rows, and then store.
func (f *neonPairsFunc) groups(body func(f *neonPairsFunc), xStep, yBytes int, store func(y asm.GP)) {
	args, firstW, firstScale, groups, y := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	rowStride, scaleStride := f.Register(), f.Register()
	f.chunks = f.Register()
	f.ws, f.ss, f.xs = f.Registers(f.rows), f.Registers(f.rows), f.Registers(f.n)
	f.lent = neonLent{scales: f.Register(), code: f.Register()}
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f.Func, args, []loaded{{"w", firstW}, {"scale", firstScale}, {"groups", groups}, {"y", y},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}})
	body(f)
	chunksOfGroup := f.chunksOfGroup
	f.Loop("group", groups, func() {
		rowsApart(f.Func, firstW, rowStride, f.ws)
		rowsApart(f.Func, firstScale, scaleStride, f.ss)
		f.Op("MOVD", f.Field(args, "x"), f.xs[0])
		f.Op("MOVD", f.Field(args, "xStride"), f.lent.code)
		rowsApart(f.Func, f.xs[0], f.lent.code, f.xs)
		f.Op("MOVD", f.Field(args, "chunks"), f.chunks)
		chunksOfGroup()
		store(y)
		f.Op("ADD", yBytes, y)
		for range f.rows {
			f.Op("ADD", rowStride, firstW)
			f.Op("ADD", scaleStride, firstScale)
		}
	})
	f.Return()
}

// eachChunk repeats body for all chunks of a group. Stored and scales are the bytes that a
// row of weights has of one, x those of a row of x, or of a pair.
func (f *neonPairsFunc) eachChunk(stored, scales, x int, body func()) {
	f.Loop("chunk", f.chunks, func() {
		for _, w := range f.ws {
			for offset := 0; offset < stored; offset += 64 {
				f.Prefetch(w.At(f.ahead + offset))
			}
		}
		body()
		for j := range f.rows {
			f.Op("ADD", stored, f.ws[j])
			if scales > 0 {
				f.Op("ADD", scales, f.ss[j])
			}
		}
		for _, r := range f.xs {
			f.Op("ADD", x, r)
		}
	})
}

func neonPairs(file *asm.File, format string, body func(f *neonPairsFunc)) {
	rows := sideBySide(format, 1)
	f := &neonPairsFunc{rows: rows, n: 1, ahead: prefetchRowsAlone}
	f.Func = file.Func(asm.NEON, fmt.Sprintf("pairs1x1%sNEON(a *pairsArgs)", format), fmt.Sprintf(
		"computes y[j] = Σ w[j][c]·x[c], x as one part, and groups of %d rows stored as %s: products of pairs of columns, in lanes of float32.",
		rows, format))
	f.groups(body, 2*chunk, 4*rows, func(y asm.GP) {
		sum := f.sums[0]
		if rows == 1 {
			f.Word("FADDP", sum, sum, sum)
			f.Word("FADDP", sum, sum, sum)
		} else {
			of := f.sums
			f.Word("FADDP", of[1], of[0], of[0])
			f.Word("FADDP", of[3], of[2], of[2])
			f.Word("FADDP", of[2], of[0], of[0])
		}
		f.sums = f.sums[:1]
		call(f.totals)
		if rows == 1 {
			f.Op("FMOVS", sum.As("F"), y.At(0))
		} else {
			f.Store(sum, y.At(0))
		}
	})
}

// neonPairsBF16 multiplies bfloat16 as they are stored, 16 columns at a time.
func neonPairsBF16(f *neonPairsFunc) {
	const vectors = 2
	all := f.Vectors(2 * f.rows) // four sums would wait for each other
	f.sums = all[:f.rows]
	weights, x := f.Vectors(vectors), f.Vectors(vectors)
	f.chunksOfGroup = func() {
		f.Clear(all...)
		f.eachChunk(2*chunk, 0, 2*chunk, func() {
			for c := 0; c < chunk; c += 8 * vectors {
				f.LoadMany(f.xs[0].At(2*c), x...)
				for j, w := range f.ws {
					f.LoadMany(w.At(2*c), weights...)
					for k, v := range weights {
						f.Word("BFDOT", x[k], v, all[k*f.rows+j])
					}
				}
			}
		})
		for j, sum := range f.sums {
			f.Word("FADD", all[f.rows+j], sum, sum)
		}
	}
}

// neonPairsMXFP8 multiplies the sums of 32 columns by their scale. A code becomes bfloat16 by
// way of half precision and float32, 2^8 too small; where NaN is among the codes all
// results are.
func neonPairsMXFP8(f *neonPairsFunc) {
	f.sums = f.Vectors(1)
	sum := f.sums[0]
	weights, x, block := f.Vectors(4), f.Vectors(2), f.Vector()
	factor, spare := f.Vector(), f.Vectors(2)
	h := newNEONHalves(f.Func)
	f.LoadTable("e8m0", f.lent.scales)
	f.chunksOfGroup = func() {
		f.Clear(sum, h.largest)
		f.eachChunk(chunk, chunk/32, 2*chunk, func() {
			w := f.ws[0]
			h.noteChunk(f.Func, w.At(0), spare)
			for of := range chunk / 32 {
				f.Clear(block)
				for c := 32 * of; c < 32*of+32; c += 16 {
					f.Load(w.At(c), weights[3])
					h.words(f.Func, weights)
					f.LoadMany(f.xs[0].At(2*c), x...)
					for k, v := range []asm.Vec{weights[0], weights[2]} {
						f.Word("BFDOT", x[k], v, block)
					}
				}
				f.lent.lookUp(f.Func, f.ss[0].At(of), factor)
				f.Word("FMLA.E", factor.Lane(0), block, sum)
			}
		})
	}
	f.totals = func() { f.trueSums(h, factor) }
}

// trueSums multiplies sums of codes that are 2^8 too small, and sets them to NaN if one was
// noted.
func (f *neonPairsFunc) trueSums(h neonHalves, two8 asm.Vec) {
	f.LoadTable("two8", f.lent.code)
	f.Load(f.lent.code.At(0), two8)
	for _, s := range f.sums {
		f.Word("FMUL", two8, s, s)
	}
	numbers := f.Label("numbers")
	h.numbers(f.Func, f.lent.code, numbers)
	for _, s := range f.sums {
		f.Op("VCMEQ", s, s, s) // all ones are NaN
	}
	f.Mark(numbers)
}

// words makes bfloat16, 2^8 too small, of the 16 codes in the last of four vectors: in the
// first and in the third.
func (h neonHalves) words(f *asm.Func, v []asm.Vec) {
	h.widen(f, v)
	for i := 0; i < 4; i += 2 {
		upperHalves(f, v[i], v[i+1], v[i])
	}
}

// upperHalves sets a vector to the upper halves of two.
func upperHalves(f *asm.Func, first, second, to asm.Vec) {
	f.Op("VUZP2", second.As("H8"), first.As("H8"), to.As("H8"))
}
