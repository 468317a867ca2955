package weights

import (
	"fmt"
	"strings"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// dotsMost is the rows of x that a function takes at most.
const dotsMost = 4

// dotsRows is the rows of weights that a function takes side by side: as many as there
// are registers for their sums.
func dotsRows(level asm.Level) int {
	if level.Registers == 16 {
		return 2
	}
	return 4
}

// dotsFiles holds the products of stored rows, some side by side, with one to four rows
// of x, a file for each format:
//
//	y[j][i] = Σ w[j][c] · x[i][c]
func dotsFiles() []*asm.File {
	var files []*asm.File
	of := map[string]*asm.File{}
	for _, level := range levels {
		for _, d := range decoders(level) {
			if of[d.format] == nil {
				of[d.format] = file("dots_"+strings.ToLower(d.format),
					"Products of rows stored as "+d.format+", two or four side by side, with one to four rows of x.",
					asm.Constant{Name: "maxDots", Value: dotsMost})
				files = append(files, of[d.format])
			}
			for n := 1; n <= dotsMost; n++ {
				dots(of[d.format], level, d, n)
			}
		}
	}
	return files
}

// dots writes a function of n rows of x.
func dots(file *asm.File, level asm.Level, d decoder, n int) {
	rows := dotsRows(level)
	f := file.Func(level, fmt.Sprintf("dots%d%s%s(a *dotsArgs)", n, d.format, level.Name), fmt.Sprintf(
		"computes y[j][i] = Σ w[j][c]·x[i][c] for i < %d and groups of %d rows stored as %s: products and sums in float32, column c%s in lane c mod %d.",
		n, rows, d.format, d.order, level.Lanes()))
	args, saving := f.Take(asm.DI), f.Take(asm.AX)
	w, rowStride, w3 := f.Take(asm.R11), f.Take(asm.R8), f.Take(asm.R14)
	scale, scaleStride, scale3 := f.Take(asm.R12), f.Take(asm.R13), f.Take(asm.R15)
	x, xStride, x3 := f.Take(asm.SI), f.Take(asm.BX), f.Take(asm.DX)
	chunks, scales, spare := f.Take(asm.R10), f.Take(asm.R9), f.Take(asm.CX)
	sums := f.Vectors(rows * n) // in the order of y
	temporaries := f.Vectors(d.temporaries)
	ws, ss, xs := asm.Rows(w, rowStride, w3), asm.Rows(scale, scaleStride, scale3), asm.Rows(x, xStride, x3)
	ahead := prefetchRows
	if n == 1 {
		ahead = prefetchRowsAlone
	}
	field := func(name string) asm.Mem { return f.Field(args, name) }

	f.Op("MOVQ", f.Arg("a"), args)
	keep(f, args, saving, "w", "scale", "y")
	decoding := d.begin(f, lent{temporaries, scales, spare})
	f.Op("MOVQ", field("rowStride"), rowStride)
	f.Op("MOVQ", field("scaleStride"), scaleStride)
	f.Op("MOVQ", field("xStride"), xStride)
	f.Loop("group", field("groups"), func() {
		f.Clear(sums...)
		f.Op("MOVQ", field("w"), w)
		f.Op("MOVQ", field("scale"), scale)
		f.Third(w, rowStride, w3)
		f.Third(scale, scaleStride, scale3)
		f.Op("MOVQ", field("x"), x)
		f.Third(x, xStride, x3)
		f.Op("MOVQ", field("chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			for j := range rows {
				for offset := 0; offset < d.bytes(); offset += 64 {
					f.Op("PREFETCHT0", ws[j].Plus(ahead+offset))
				}
				if decoding.pair == nil {
					decoding.chunk(ws[j].Plus, ss[j].Plus, func(i int, v asm.Vec) {
						for k := range n {
							f.Op("VFMADD231PS", xs[k].Plus(i*level.Bytes), v, sums[j*n+k])
						}
					})
				}
			}
			if decoding.pair != nil {
				dotsByPairs(f, decoding, ws, xs, sums, temporaries)
			}
			f.Op("ADDQ", d.bytes(), w)
			f.Op("ADDQ", d.bytes(), w3)
			if d.scale > 0 {
				f.Op("ADDQ", d.scale*chunk/32, scale)
				f.Op("ADDQ", d.scale*chunk/32, scale3)
			}
			f.Op("ADDQ", 4*chunk, x)
			f.Op("ADDQ", 4*chunk, x3)
		})
		y := spare
		f.Op("MOVQ", field("y"), y)
		for i := 0; i < len(sums); i += 4 {
			four := sums[i:min(i+4, len(sums))]
			sumFour(f, four, temporaries)
			sum := four[0].X()
			if d.short8 {
				f.Op("VMULPS", asm.Table("two8"), sum, sum)
			}
			f.Op("VMOVUPS", sum, y.At(4*i))
		}
		f.Op("ADDQ", 4*len(sums), y)
		f.Op("MOVQ", y, field("y"))
		for range rows {
			f.Op("ADDQ", rowStride, field("w"))
			f.Op("ADDQ", scaleStride, field("scale"))
		}
	})
	giveBack(f, args, saving, "w", "scale", "y")
	markSpecial(f, args, decoding.numbers)
	f.Return()
}

// dotsByPairs multiplies a chunk two vectors at a time, for which rows of x are loaded once for
// all rows of weights.
func dotsByPairs(f *asm.Func, d decoding, ws, xs []asm.Mem, sums, temporaries []asm.Vec) {
	rows := dotsRows(f.Level)
	n := len(sums) / rows
	x := f.Vectors(2 * n)
	for i := range chunk / f.Level.Lanes() / 2 {
		for k := range x {
			f.Op("VMOVUPS", xs[k/2].Plus((2*i+k%2)*f.Level.Bytes), x[k])
		}
		for j := range rows {
			v := temporaries[j%2*2:][:2]
			d.pair(ws[j].Plus, i, v)
			for k := range n {
				f.Op("VFMADD231PS", x[2*k], v[0], sums[j*n+k])
				f.Op("VFMADD231PS", x[2*k+1], v[1], sums[j*n+k])
			}
		}
	}
}

// keep copies pointer arguments to the words of saved, which the garbage collector does not
// read; giveBack puts them back. Between the two they may move past what they point into,
// which the garbage collector must never see.
func keep(f *asm.Func, args, by asm.GP, pointers ...string) {
	for i, p := range pointers {
		f.Op("MOVQ", f.Field(args, p), by)
		f.Op("MOVQ", by, f.Field(args, "saved").Plus(8*i))
	}
}

func giveBack(f *asm.Func, args, by asm.GP, pointers ...string) {
	for i, p := range pointers {
		f.Op("MOVQ", f.Field(args, "saved").Plus(8*i), by)
		f.Op("MOVQ", by, f.Field(args, p))
	}
}

// markSpecial sets special unless numbers, where there is such, jumps.
func markSpecial(f *asm.Func, args asm.GP, numbers func(label string)) {
	if numbers == nil {
		return
	}
	label := f.Label("numbers")
	numbers(label)
	f.Op("MOVQ", 1, f.Field(args, "special"))
	f.Mark(label)
}

// sumFour adds up the lanes of up to four vectors, into the lanes of the first one's
// lowest four, with three temporary ones. What is not there is another one's sum.
func sumFour(f *asm.Func, vectors, temporaries []asm.Vec) {
	of := func(i int) asm.Vec { return vectors[i%len(vectors)] }
	sum, pairs, t := vectors[0], temporaries[:2], temporaries[2]
	for i, p := range pairs {
		f.Op("VUNPCKLPS", of(2*i+1), of(2*i), p)
		f.Op("VUNPCKHPS", of(2*i+1), of(2*i), t)
		f.Op("VADDPS", t, p, p)
	}
	f.Op("VUNPCKLPD", pairs[1], pairs[0], sum)
	f.Op("VUNPCKHPD", pairs[1], pairs[0], t)
	f.Op("VADDPS", t, sum, sum)
	half := pairs[0]
	if f.Level.Bytes == 64 {
		f.Op("VEXTRACTF64X4", 1, sum.Z(), half.Y())
		f.Op("VADDPS", half.Y(), sum.Y(), sum.Y())
		f.Op("VEXTRACTF32X4", 1, sum.Y(), half.X())
	} else {
		f.Op("VEXTRACTF128", 1, sum.Y(), half.X())
	}
	f.Op("VADDPS", half.X(), sum.X(), sum.X())
}
