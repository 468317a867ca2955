package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

const (
	// pairsMost is the rows of x that a function takes at most with rows as they are stored.
	pairsMost = 4
	// partsMost is the bfloat16 that a value of x becomes at most. Three would add up to it,
	// but then products in float32 are faster.
	partsMost = 2
)

// pairsFile holds the products of rows with one to four rows of x, as pairs of bfloat16:
//
//	y[j][i] = Σ w[j][c] · (x[i][c] as one or two bfloat16)
//
// A chunk of x is 128 bytes of its first parts, then 128 of the second ones.
func pairsFile() *asm.File {
	f := file("pairs", "Products of rows, as they are stored, with one to four rows of x as bfloat16.",
		asm.Constant{Name: "maxPairs", Value: pairsMost}, asm.Constant{Name: "pairsRows", Value: pairsRows},
		asm.Constant{Name: "maxParts", Value: partsMost}, asm.Constant{Name: "chunkColumns", Value: chunk})
	for parts := 1; parts <= partsMost; parts++ {
		for n := 1; n <= pairsMost; n++ {
			pairs(f, "BF16", n, parts, pairsBF16)
			pairs(f, "MXFP8", n, parts, pairsMXFP8)
		}
	}
	return f
}

// pairsRows is the rows of weights side by side.
const pairsRows = 4

// sideBySide is pairsRows, but for one row of x with a format that has scales: rows that
// follow each other in memory are then read faster one after the other.
func sideBySide(format string, n int) int {
	if n == 1 && format != "BF16" {
		return 1
	}
	return pairsRows
}

// pairsFunc is a function of pairsFile, while it is written.
type pairsFunc struct {
	*asm.Func
	rows, n, parts       int // of weights, of x, and of each x
	args, by             asm.GP
	w, scale             asm.GP // of the first row, moved by the body
	w3, scale3           asm.GP // of the fourth
	x, x3                asm.GP
	ws, scales, xs       []asm.Mem
	chunks, some         asm.GP // chunks left, and those of a part of them
	sums                 []asm.Vec
	temporaries          []asm.Vec
	ahead                []int // bytes before their use that weights are asked for
	setUp, chunksOfGroup func()
}

// prefetch asks for bytes that row j reaches later, the nearest into the first cache.
func (f *pairsFunc) prefetch(j, bytes int) {
	for i, ahead := range f.ahead {
		for offset := 0; offset < bytes; offset += 64 {
			f.Op(fmt.Sprint("PREFETCHT", i), f.ws[j].Plus(ahead+offset))
		}
	}
}

func (f *pairsFunc) field(name string) asm.Mem { return f.Field(f.args, name) }

// move goes on to the next chunk, of values of that many bytes.
func (f *pairsFunc) move(bytes int) {
	for _, r := range []asm.GP{f.w, f.w3} {
		f.Op("ADDQ", bytes, r)
	}
	for _, r := range []asm.GP{f.x, f.x3} {
		f.Op("ADDQ", 2*chunk*f.parts, r)
	}
}

// part is a vector of part p of row k of x: half of a chunk.
func (f *pairsFunc) part(k, p, half int) asm.Mem { return f.xs[k].Plus(2*chunk*p + 64*half) }

func pairs(file *asm.File, format string, n, parts int, body func(f *pairsFunc)) {
	f := &pairsFunc{rows: sideBySide(format, n), n: n, parts: parts}
	f.Func = file.Func(asm.BF16, fmt.Sprintf("pairs%dx%d%s(a *pairsArgs)", n, parts, format), fmt.Sprintf(
		"computes y[j][i] = Σ w[j][c]·x[i][c] for i < %d, x as %s, and groups of %d rows stored as %s: products of pairs of columns, in lanes of float32.",
		n, plural(parts, "part"), f.rows, format))
	f.args, f.by = f.Take(asm.DI), f.Take(asm.AX)
	rowStride, scaleStride, xStride := f.Take(asm.R8), f.Take(asm.R13), f.Take(asm.BX)
	f.w, f.w3, f.scale, f.scale3 = f.Take(asm.R11), f.Take(asm.R14), f.Take(asm.R12), f.Take(asm.R15)
	f.x, f.x3, f.chunks, f.some = f.Take(asm.SI), f.Take(asm.DX), f.Take(asm.R10), f.Take(asm.R9)
	f.ws, f.scales, f.xs = asm.Rows(f.w, rowStride, f.w3), asm.Rows(f.scale, scaleStride, f.scale3), asm.Rows(f.x, xStride, f.x3)
	f.sums, f.temporaries = f.Vectors(f.rows*n), f.Vectors(4)
	switch {
	case f.rows == 1:
		f.ahead = []int{prefetchRow, prefetchRowFar}
	case n == 1:
		f.ahead = []int{prefetchRowsAlone}
	default:
		f.ahead = []int{prefetchRows}
	}
	f.Op("MOVQ", f.Arg("a"), f.args)
	keep(f.Func, f.args, f.by, "w", "scale", "y")
	body(f)
	f.setUp()
	f.Op("MOVQ", f.field("rowStride"), rowStride)
	f.Op("MOVQ", f.field("scaleStride"), scaleStride)
	f.Op("MOVQ", f.field("xStride"), xStride)
	f.Loop("group", f.field("groups"), func() {
		f.Clear(f.sums...)
		f.Op("MOVQ", f.field("w"), f.w)
		f.Op("MOVQ", f.field("scale"), f.scale)
		f.Third(f.w, rowStride, f.w3)
		f.Third(f.scale, scaleStride, f.scale3)
		f.Op("MOVQ", f.field("x"), f.x)
		f.Third(f.x, xStride, f.x3)
		f.Op("MOVQ", f.field("chunks"), f.chunks)
		f.chunksOfGroup()
		y := f.some
		f.Op("MOVQ", f.field("y"), y)
		if len(f.sums) == 1 {
			sumLanes(f.Func, f.sums[0], f.temporaries[0], f.temporaries[1])
			f.Op("VMOVSS", f.temporaries[0].X(), y.At(0))
		}
		for i := 0; i+4 <= len(f.sums); i += 4 {
			four := f.sums[i : i+4]
			sumFour(f.Func, four, f.temporaries)
			f.Op("VMOVUPS", four[0].X(), y.At(4*i))
		}
		f.Op("ADDQ", 4*len(f.sums), y)
		f.Op("MOVQ", y, f.field("y"))
		for range f.rows {
			f.Op("ADDQ", rowStride, f.field("w"))
			f.Op("ADDQ", scaleStride, f.field("scale"))
		}
	})
	giveBack(f.Func, f.args, f.by, "w", "scale", "y")
	f.Return()
}

// pairsBF16 multiplies bfloat16 as they are stored.
func pairsBF16(f *pairsFunc) {
	weights := f.Vectors(pairsRows)
	f.setUp = func() {}
	f.chunksOfGroup = func() {
		f.Loop("chunk", f.chunks, func() {
			for j := range pairsRows {
				f.prefetch(j, 2*chunk)
			}
			for half := range 2 {
				alone := f.n*f.parts == 1
				for j, w := range weights {
					if !alone {
						f.Op("VMOVDQU64", f.ws[j].Plus(64*half), w)
					}
				}
				for k := range f.n {
					for p := range f.parts {
						x := f.temporaries[(k*f.parts+p)%4]
						f.Op("VMOVDQU64", f.part(k, p, half), x)
						for j, w := range weights {
							if alone {
								f.AddPairs(f.ws[j].Plus(64*half), x, f.sums[j])
								continue
							}
							f.AddPairs(x, w, f.sums[j*f.n+k])
						}
					}
				}
			}
			f.move(2 * chunk)
		})
	}
}

// pairsMXFP8 looks up bfloat16 of the codes, which are then in the order of unpackedE4M3,
// and multiplies the sums of a chunk by its two scales.
func pairsMXFP8(f *pairsFunc) {
	factors := f.Vectors(f.rows) // of 16 scales
	var l unpackedE4M3
	var lane asm.Vec
	f.setUp = func() {
		l = newUnpackedE4M3(f.Func, "e4m3High", f.by)
		lane = f.Vector()
	}
	f.chunksOfGroup = func() {
		scalesLoop(f.Func, f.chunks, f.some, f.by, func() {
			for j, s := range factors {
				f.Op("VPMOVZXBD.Z", f.scales[j], asm.K1, s)
				valueOfE8M0(f.Func, s)
			}
			f.Op("ADDQ", 16, f.scale)
			f.Op("ADDQ", 16, f.scale3)
			f.Op("VMOVDQU64", asm.Table("laneOfScale"), lane)
		}, func() {
			for j, s := range factors {
				f.prefetch(j, chunk)
				upper, factor, lower, sum := f.temporaries[0], f.temporaries[1], f.temporaries[2], f.temporaries[3]
				l.words(f.Func, f.ws[j], upper, factor, lower)
				f.Op("VPERMD", s, lane, factor)
				for k := range f.n {
					f.Clear(sum)
					for p := range f.parts {
						f.AddPairs(f.part(k, p, 0), lower, sum)
						f.AddPairs(f.part(k, p, 1), upper, sum)
					}
					f.Op("VFMADD231PS", factor, sum, f.sums[j*f.n+k])
				}
			}
			f.Op("VPADDD", asm.Table("nextLanes"), lane, lane)
			f.move(chunk)
		})
	}
}

// scalesLoop repeats body for chunks, one at least, and before each eight of them load,
// with a bit of K1 set for each of their scales.
func scalesLoop(f *asm.Func, chunks, some, by asm.GP, load, body func()) {
	label := f.Mark(f.Label("scales"))
	f.Op("MOVQ", 8, some)
	f.Op("CMPQ", chunks, some)
	f.Op("CMOVQLT", chunks, some)
	f.Op("MOVQ", some, asm.CX)
	f.Op("ADDQ", asm.CX, asm.CX)
	f.Op("MOVL", 1, by)
	f.Op("SHLL", asm.CX, by)
	f.Op("DECL", by)
	f.Op("KMOVW", by, asm.K1)
	load()
	f.Loop("chunk", some, body)
	f.Op("SUBQ", 8, chunks)
	f.Op("JGT", label)
}

// valueOfE8M0 makes float32 of codes in double words: 2^(code−127), 2^−127 too, and NaN of
// 255, both of which lack a bit after the shift.
func valueOfE8M0(f *asm.Func, v asm.Vec) {
	f.Op("VPSLLD", 23, v, v)
	f.Op("VPTESTNMD", v, v, asm.K2)
	f.Op("VPCMPEQD.BCST", asm.Table("infinity"), v, asm.K3)
	f.Op("KORW", asm.K2, asm.K3, asm.K2)
	f.Op("VPORD.BCST", asm.Table("topBit"), v, asm.K2, v)
}

// unpackedE4M3 makes bfloat16 of e4m3 by two tables of bytes, in the order in which bytes
// are unpacked: 64 columns become the two vectors
//
//	0 … 7, 16 … 23, 32 … 39, 48 … 55       8 … 15, 24 … 31, 40 … 47, 56 … 63
//
// so that the lower half of each is of the first scale.
type unpackedE4M3 struct {
	high0, high1, low0, low1, signs asm.Vec
}

func newUnpackedE4M3(f *asm.Func, high string, by asm.GP) unpackedE4M3 {
	v := f.Top(5)
	l := unpackedE4M3{v[0], v[1], v[2], v[3], v[4]}
	f.Op("VMOVDQU64", asm.Table(high), l.high0)
	f.Op("VMOVDQU64", asm.Table(high).Plus(64), l.high1)
	f.Op("VMOVDQU64", asm.Table("e4m3Low"), l.low0)
	f.Op("VMOVDQU64", asm.Table("e4m3Low").Plus(64), l.low1)
	f.Broadcast(0x80808080, by, l.signs)
	return l
}

// words sets upper and lower; high is overwritten. The upper bytes, where NaN may be
// marked, are noted in the vectors seen.
func (l unpackedE4M3) words(f *asm.Func, at asm.Mem, upper, high, lower asm.Vec, seen ...asm.Vec) {
	f.Op("VMOVDQU64", at, upper)
	f.Op("VMOVDQA64", upper, high)
	f.Op("VMOVDQA64", upper, lower)
	f.Op("VPERMI2B", l.high1, l.high0, high)
	f.Op("VPERMI2B", l.low1, l.low0, lower)
	for _, s := range seen {
		f.Op("VPORD", high, s, s)
	}
	f.Op("VPTERNLOGD", uint32(0xf8), l.signs, upper, high) // high | codes & signs
	f.Op("VPUNPCKHBW", high, lower, upper)
	f.Op("VPUNPCKLBW", high, lower, lower)
}
