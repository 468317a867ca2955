package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// matrixPanelX is the pairs of rows of x that a product of a panel takes at most: with four
// pairs of rows of weights 16 sums, each loaded vector used four times.
const matrixPanelX = 4

// neonPairsPanelFile holds what decodes rows to panels of bfloat16, two rows together as
// BFMMLA wants them, and the products of those, for arm64.
//
//	a panel   [pairs of rows][columns/4][2][4] bfloat16
func neonPairsPanelFile() *asm.File {
	f := neonFile("pairs_panel", "Panels of weights as bfloat16, and their products with rows of x.",
		asm.Constant{Name: "pairsPanelRows", Value: pairsPanelRows}, asm.Constant{Name: "maxMatrixX", Value: matrixPanelX},
		asm.Constant{Name: "pairsPanelStride", Value: pairsPanelStride})
	neonDecodeMatrix(f, "BF16", "", 2, neonPanelBF16)
	neonDecodeMatrix(f, "MXFP8", docSpecialPairs, 1, neonPanelMXFP8)
	for n := 0; n <= matrixPanelX; n++ {
		neonProductMatrix(f, n)
	}
	return f
}

// twoRows is where two rows of weights, and their scales, are read.
type twoRows struct{ w, scale [2]asm.GP }

// neonDecodeMatrix writes a function of a format with values of that many bytes. body says
// how a chunk of two rows is decoded.
func neonDecodeMatrix(file *asm.File, format, special string, stored int,
	body func(f *asm.Func, of twoRows, panel asm.GP) (chunk func(), numbers func(label string)),
) {
	f := file.Func(asm.NEON, fmt.Sprintf("decodeMatrix%sNEON(a *decodeArgs)", format),
		"decodes a panel of "+format+" to bfloat16, with rows as many pairs"+special+".")
	args := f.Register()
	rowW, rowScale, rowPanel, rowNext := f.Register(), f.Register(), f.Register(), f.Register()
	of, panel, nexts := twoRows{[2]asm.GP(f.Registers(2)), [2]asm.GP(f.Registers(2))}, f.Register(), f.Registers(2)
	rows, chunks, rowStride, scaleStride, panelStride := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"panel", rowPanel}, {"w", rowW}, {"scale", rowScale}, {"next", rowNext}, {"rows", rows},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}, {"panelStride", panelStride}})
	decode, numbers := body(f, of, panel)
	f.Loop("row", rows, func() {
		rowsApart(f, rowW, rowStride, of.w[:])
		rowsApart(f, rowScale, scaleStride, of.scale[:])
		rowsApart(f, rowNext, rowStride, nexts)
		f.Op("MOVD", rowPanel, panel)
		f.Op("MOVD", f.Field(args, "chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			for _, next := range nexts {
				for offset := 0; offset < stored*chunk; offset += 64 {
					f.Prefetch(next.At(offset))
				}
			}
			decode()
			for i := range 2 {
				f.Op("ADD", stored*chunk, of.w[i])
				f.Op("ADD", stored*chunk, nexts[i])
			}
			f.Op("ADD", 4*chunk, panel)
		})
		f.Op("ADD", panelStride, rowPanel)
		f.Op("ADD", rowStride.Shifted(1), rowW)
		f.Op("ADD", rowStride.Shifted(1), rowNext)
		f.Op("ADD", scaleStride.Shifted(1), rowScale)
	})
	neonMarkSpecial(f, args, chunks, numbers)
	f.Return()
}

func neonPanelBF16(f *asm.Func, of twoRows, panel asm.GP) (func(), func(string)) {
	const columns = 32
	first, second, both := f.Vectors(columns/8), f.Vectors(columns/8), f.Vectors(columns/4)
	return func() {
		for c := 0; c < chunk; c += columns {
			f.LoadMany(of.w[0].At(2*c), first...)
			f.LoadMany(of.w[1].At(2*c), second...)
			interleave(f, first, second, both)
			f.StoreMany(panel.At(4*c), both...)
		}
	}, nil
}

// neonPanelMXFP8 multiplies values by their scale in float32, where that is exact in
// bfloat16.
func neonPanelMXFP8(f *asm.Func, of twoRows, panel asm.GP) (func(), func(string)) {
	const leastScale, mostScale = 10, 246
	v := [2][]asm.Vec{f.Vectors(4), f.Vectors(4)}
	factors, two8, spare := f.Vectors(2), f.Vector(), f.Vectors(2)
	r := neonLent{scales: f.Register(), code: f.Register()}
	outside, is := f.Register(), f.Register()
	h := newNEONHalves(f)
	f.LoadTable("e8m0", r.scales)
	f.LoadTable("two8", r.code)
	f.Load(r.code.At(0), two8)
	f.Op("MOVD", 0, outside)
	return func() {
			for i := range 2 {
				h.noteChunk(f, of.w[i].At(0), spare)
			}
			for c := 0; c < chunk; c += 16 {
				for i, values := range v {
					if c%32 == 0 {
						r.lookUp(f, of.scale[i].At(c/32), factors[i])
						f.Word("FMUL", two8, factors[i], factors[i])
						f.Op("SUB", leastScale, r.code)
						f.Op("CMP", mostScale-leastScale, r.code)
						f.Op("CSET", "HI", is)
						f.Op("ORR", is, outside)
					}
					f.Load(of.w[i].At(c), values[3])
					h.widen(f, values)
					for _, value := range values {
						f.Word("FMUL.E", factors[i].Lane(0), value, value)
					}
				}
				for k := range v[0] {
					upperHalves(f, v[0][k], v[1][k], v[0][k])
				}
				f.StoreMany(panel.At(4*c), v[0]...)
			}
			for i := range 2 {
				f.Op("ADD", chunk/32, of.scale[i])
			}
		}, func(label string) {
			special := f.Label("special")
			f.Op("CBNZ", outside, special)
			h.numbers(f, r.code, label)
			f.Mark(special)
		}
}

// neonProductMatrix is productPairs with n pairs of rows of x, as neonMatrix has them; 0: with
// one row, in the order of the columns. Eight columns are loaded at a time.
func neonProductMatrix(file *asm.File, n int) {
	const pairs = pairsPanelRows / 2
	x, bytes := fmt.Sprintf("x[i], i < %d,", 2*n), 4
	if n == 0 {
		x, bytes = "x, a row in the order of the columns,", 2
	}
	vectors := max(n, 1)
	f := file.Func(asm.NEON, fmt.Sprintf("product%dx%dMatrixNEON(a *productPairsArgs)", pairsPanelRows, max(2*n, 1)), fmt.Sprintf(
		"adds the products of panel[j] and %s to sums[j/2][i/2], of four float32, in the order of the columns, for j = 0 … %d; first: to zeros.",
		x, pairsPanelRows-1))
	args, memory, chunks, xStride, step := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	panels, rows, first := f.Registers(pairs), f.Registers(vectors), f.Register()
	sums, xs := f.Vectors(pairs*vectors), f.Vectors(2)
	var weights [pairs][]asm.Vec
	for j := range weights {
		weights[j] = f.Vectors(2)
	}
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"panel", panels[0]}, {"x", rows[0]}, {"sums", memory}, {"chunks", chunks},
		{"xStride", xStride}, {"step", step}, {"first", first}})
	for j := 1; j < pairs; j++ {
		f.Op("ADD", 4*pairsPanelStride, panels[j-1], panels[j])
	}
	rowsApart(f, rows[0], xStride, rows)
	begun := f.Label("begun")
	f.Clear(sums...)
	f.Op("CBNZ", first, begun)
	f.LoadMany(memory.At(0), sums...)
	f.Mark(begun)
	f.Loop("chunk", chunks, func() {
		for c := 0; c < chunk; c += 8 {
			for j, p := range panels {
				f.LoadMany(p.At(4*c), weights[j]...)
			}
			for i, r := range rows {
				if n == 0 { // as if it were two
					f.Load(r.At(bytes*c), xs[1])
					f.Op("VDUP", xs[1].As("D").Lane(0), xs[0].As("D2"))
					f.Op("VDUP", xs[1].As("D").Lane(1), xs[1].As("D2"))
				} else {
					f.LoadMany(r.At(bytes*c), xs...)
				}
				for k, v := range xs {
					for j := range pairs {
						f.Word("BFMMLA", v, weights[j][k], sums[j*vectors+i])
					}
				}
			}
		}
		for _, p := range panels {
			f.Op("ADD", 4*chunk, p)
		}
		for _, r := range rows {
			f.Op("ADD", step, r)
		}
	})
	f.StoreMany(memory.At(0), sums...)
	f.Return()
}
