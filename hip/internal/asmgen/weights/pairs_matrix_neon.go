package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonMatrix writes a function that multiplies n pairs of rows of x. BFMMLA adds the products
// of two rows of weights with two rows of x, of four columns: to each of four sums those of
// two columns, and then of the next two, each time as BFDOT does: it takes what is subnormal as
// zero and rounds the sum of a pair, and what that is added to, to odd. So it does twice the
// work of BFDOT, and one sum takes the steps that BFDOT's four lanes share. It wants two rows in
// one vector, four columns of each:
//
//	x              [pairs of rows][columns/4][2][4] bfloat16, as splitMatrixNEON leaves it
//	w              rows as they are stored, brought together here
//	a vector sum   w[j]·x[i]  w[j]·x[i+1]  w[j+1]·x[i]  w[j+1]·x[i+1]
func neonMatrix(file *asm.File, format string, n int, body func(f *neonPairsFunc)) {
	const rows = pairsRows
	f := &neonPairsFunc{rows: rows, n: n, ahead: prefetchRows}
	f.Func = file.Func(asm.NEON, fmt.Sprintf("matrix%d%sNEON(a *pairsArgs)", n, format), fmt.Sprintf(
		"computes y[j][i] = Σ w[j][c]·x[i][c] for i < %d, pairs of rows of x, and groups of %d rows stored as %s: sums of float32, over two columns at a time.",
		2*n, rows, format))
	f.groups(body, 4*chunk, 4*rows*2*n, func(y asm.GP) {
		call(f.totals)
		for k, sum := range f.sums {
			at := y.At(4 * (2*n*2*(k/n) + 2*(k%n)))
			f.Op("FMOVD", sum.As("F"), at)
			f.Op("VDUP", sum.As("D").Lane(1), sum.As("D2"))
			f.Op("FMOVD", sum.As("F"), at.Plus(4*2*n))
		}
	})
}

// neonMatrixBF16 brings 16 columns of each pair of rows of weights together at a time.
func neonMatrixBF16(f *neonPairsFunc) {
	const columns = 16
	strands := 1
	if f.n <= 2 { // few sums would wait for each other
		strands = 2
	}
	pairs := f.rows / 2
	all := f.Vectors(pairs * f.n * strands)
	f.sums = all[:pairs*f.n]
	first, second, weights, x := f.Vectors(columns/8), f.Vectors(columns/8), f.Vectors(pairs*columns/4), f.Vectors(columns/4)
	f.chunksOfGroup = func() {
		f.Clear(all...)
		f.eachChunk(2*chunk, 0, 4*chunk, func() {
			for c := 0; c < chunk; c += columns {
				for p := range pairs {
					f.LoadMany(f.ws[2*p].At(2*c), first...)
					f.LoadMany(f.ws[2*p+1].At(2*c), second...)
					interleave(f.Func, first, second, weights[p*columns/4:])
				}
				for i, r := range f.xs {
					f.LoadMany(r.At(4*c), x...)
					for k, v := range x {
						for p := range pairs {
							f.Word("BFMMLA", v, weights[p*columns/4+k], all[k%strands*len(f.sums)+p*f.n+i])
						}
					}
				}
			}
		})
		for i := len(f.sums); i < len(all); i++ {
			f.Word("FADD", all[i], all[i-len(f.sums)], all[i-len(f.sums)])
		}
	}
}

// interleave brings two rows of bfloat16 together, four columns of each at a time.
func interleave(f *asm.Func, first, second, to []asm.Vec) {
	for i := range first {
		a, b := first[i].As("D2"), second[i].As("D2")
		f.Op("VZIP1", b, a, to[2*i].As("D2"))
		f.Op("VZIP2", b, a, to[2*i+1].As("D2"))
	}
}

// neonMatrixMXFP8 is neonPairsMXFP8 for pairs. The upper halves of float32 of two rows are
// what BFMMLA wants of them.
func neonMatrixMXFP8(f *neonPairsFunc) {
	pairs := f.rows / 2
	f.sums = f.Vectors(pairs * f.n)
	first, second, x, blocks := f.Vectors(4), f.Vectors(4), f.Vectors(4), f.Vectors(f.n)
	factor, other, spare := f.Vector(), f.Vector(), f.Vectors(2)
	h := newNEONHalves(f.Func)
	f.LoadTable("e8m0", f.lent.scales)
	f.chunksOfGroup = func() {
		f.Clear(append(append([]asm.Vec{}, f.sums...), h.largest)...)
		f.eachChunk(chunk, chunk/32, 4*chunk, func() {
			for _, w := range f.ws {
				h.noteChunk(f.Func, w.At(0), spare)
			}
			for p := range pairs {
				for block := range chunk / 32 {
					f.Clear(blocks...)
					for c := 32 * block; c < 32*block+32; c += 16 {
						f.Load(f.ws[2*p].At(c), first[3])
						f.Load(f.ws[2*p+1].At(c), second[3])
						h.widen(f.Func, first)
						h.widen(f.Func, second)
						for k := range first {
							upperHalves(f.Func, first[k], second[k], first[k])
						}
						for i, r := range f.xs {
							f.LoadMany(r.At(4*c), x...)
							for k, v := range x {
								f.Word("BFMMLA", v, first[k], blocks[i])
							}
						}
					}
					f.lent.lookUp(f.Func, f.ss[2*p].At(block), factor)
					f.lent.lookUp(f.Func, f.ss[2*p+1].At(block), other)
					f.Op("VZIP1", other, factor, factor)
					f.Op("VZIP1", factor, factor, factor) // each for two sums
					for i, b := range blocks {
						f.Op("VFMLA", factor, b, f.sums[p*f.n+i])
					}
				}
			}
		})
	}
	f.totals = func() { f.trueSums(h, factor) }
}
