package weights

import (
	"fmt"
	"strings"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonDotsRows is the rows of weights that a function takes side by side.
const neonDotsRows = 4

// neonDotsFiles holds the products of stored rows, four side by side, with one to four rows
// of x for arm64, as dotsFiles does for amd64.
func neonDotsFiles() []*asm.File {
	var files []*asm.File
	for _, d := range neonDecoders() {
		f := neonFile("dots_"+strings.ToLower(d.format),
			"Products of rows stored as "+d.format+", four side by side, with one to four rows of x.",
			asm.Constant{Name: "maxDots", Value: dotsMost})
		for n := 1; n <= dotsMost; n++ {
			neonDots(f, d, n)
		}
		files = append(files, f)
	}
	return files
}

// neonDots writes a function of n rows of x. Vectors of x are loaded once for all rows of
// weights; with few rows of x there are registers for 16 columns of it, and else for 8.
func neonDots(file *asm.File, d neonDecoder, n int) {
	const rows = neonDotsRows
	lanes := asm.NEON.Lanes()
	columns, ahead, strands := 8, prefetchRows, 1
	if n <= 2 {
		columns = 16
	}
	doc := fmt.Sprintf("computes y[j][i] = Σ w[j][c]·x[i][c] for i < %d and groups of %d rows stored as %s: products and sums in float32, column c in lane c mod %d",
		n, rows, d.format, lanes)
	if n == 1 { // four sums would wait for each other
		ahead, strands = prefetchRowsAlone, 2
		doc += fmt.Sprintf(" of sum c/%d mod %d", lanes, strands)
	}
	f := file.Func(asm.NEON, fmt.Sprintf("dots%d%sNEON(a *dotsArgs)", n, d.format), doc+".")
	args, firstW, firstScale, groups, chunks, y := f.Register(), f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	rowStride, scaleStride := f.Register(), f.Register()
	ws, ss, xs := f.Registers(rows), f.Registers(rows), f.Registers(n)
	r := neonLent{scales: f.Register(), code: f.Register()}
	sums := f.Vectors(rows * n * strands) // in the order of y, and again
	weights := f.Vectors(columns / lanes)
	var x [dotsMost][]asm.Vec
	for i := range n {
		x[i] = f.Vectors(columns / lanes)
	}
	var factors []asm.Vec
	if d.scale > 0 {
		factors = f.Vectors(rows)
	}

	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"w", firstW}, {"scale", firstScale}, {"groups", groups}, {"y", y},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}})
	decoding := d.begin(f, r)
	f.Loop("group", groups, func() {
		f.Clear(sums...)
		rowsApart(f, firstW, rowStride, ws)
		if d.scale > 0 {
			rowsApart(f, firstScale, scaleStride, ss)
		}
		f.Op("MOVD", f.Field(args, "x"), xs[0])
		f.Op("MOVD", f.Field(args, "xStride"), r.code)
		rowsApart(f, xs[0], r.code, xs)
		f.Op("MOVD", f.Field(args, "chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			for _, w := range ws {
				for offset := 0; offset < d.bytes(chunk); offset += 64 {
					f.Prefetch(w.At(ahead + offset))
				}
				if decoding.note != nil {
					decoding.note(w.At(0), weights[:2])
				}
			}
			for c := 0; c < chunk; c += columns {
				for i := range n {
					f.LoadMany(xs[i].At(4*c), x[i]...)
				}
				for j := range rows {
					if d.scale > 0 && c%d.columns == 0 {
						decoding.factor(ss[j].At(d.scaleBytes(c)), factors[j])
					}
					decoding.floats(ws[j].At(d.bytes(c)), weights)
					for k, v := range weights {
						if d.scale > 0 {
							f.Word("FMUL.E", factors[j].Lane(0), v, v)
						}
						for i := range n {
							f.Op("VFMLA", x[i][k], v, sums[k%strands*rows*n+j*n+i])
						}
					}
				}
			}
			for _, w := range ws {
				f.Op("ADD", d.bytes(chunk), w)
			}
			if d.scale > 0 {
				for _, s := range ss {
					f.Op("ADD", d.scaleBytes(chunk), s)
				}
			}
			for _, at := range xs {
				f.Op("ADD", 4*chunk, at)
			}
		})
		if strands == 2 {
			for i := range rows * n {
				f.Word("FADD", sums[rows*n+i], sums[i], sums[i])
			}
		}
		totals := sums[:rows*n]
		for i := 0; i < len(totals); i += 4 {
			of := totals[i : i+4]
			f.Word("FADDP", of[1], of[0], of[0])
			f.Word("FADDP", of[3], of[2], of[2])
			f.Word("FADDP", of[2], of[0], totals[i/4])
		}
		totals = totals[:len(totals)/4]
		if d.short8 {
			two8 := weights[0]
			f.LoadTable("two8", r.code)
			f.Load(r.code.At(0), two8)
			for _, v := range totals {
				f.Word("FMUL", two8, v, v)
			}
		}
		f.StoreMany(y.At(0), totals...)
		f.Op("ADD", 16*len(totals), y)
		for _, move := range [][2]asm.GP{{rowStride, firstW}, {scaleStride, firstScale}} {
			f.Op("ADD", move[0].Shifted(2), move[1]) // four rows
		}
	})
	neonMarkSpecial(f, args, r.code, decoding.numbers)
	f.Return()
}

// rowsApart sets registers to a place and to those that follow it, a stride apart.
func rowsApart(f *asm.Func, first, stride asm.GP, rows []asm.GP) {
	for j, r := range rows {
		switch {
		case j > 0:
			f.Op("ADD", stride, rows[j-1], r)
		case r != first:
			f.Op("MOVD", first, r)
		}
	}
}

// neonMarkSpecial is markSpecial for arm64.
func neonMarkSpecial(f *asm.Func, args, by asm.GP, numbers func(label string)) {
	if numbers == nil {
		return
	}
	label := f.Label("numbers")
	numbers(label)
	f.Op("MOVD", 1, by)
	f.Op("MOVD", by, f.Field(args, "special"))
	f.Mark(label)
}
