package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonPairsPanelFile holds what decodes rows to panels of bfloat16, and the products of
// those, for arm64.
func neonPairsPanelFile() *asm.File {
	f := neonFile("pairs_panel", "Panels of weights as bfloat16, and their products with rows of x.",
		asm.Constant{Name: "pairsPanelRows", Value: pairsPanelRows}, asm.Constant{Name: "maxPanelX", Value: pairsPanelX},
		asm.Constant{Name: "pairsPanelStride", Value: pairsPanelStride})
	neonDecodePairs(f, "BF16", "", 2, neonPanelBF16)
	neonDecodePairs(f, "MXFP8", docSpecialPairs, 1, neonPanelMXFP8)
	for n := 1; n <= pairsPanelX; n++ {
		neonProductPairs(f, n)
	}
	return f
}

// neonDecodePairs writes a function of a format with values of that many bytes. body says
// how a chunk is decoded.
func neonDecodePairs(file *asm.File, format, special string, stored int,
	body func(f *asm.Func, w, scale, panel asm.GP) (chunk func(), numbers func(label string)),
) {
	f := file.Func(asm.NEON, fmt.Sprintf("decodePairs%sNEON(a *decodeArgs)", format), "decodes a panel of "+format+" to bfloat16"+special+".")
	args := f.Register()
	rowW, rowScale, rowPanel, rowNext := f.Register(), f.Register(), f.Register(), f.Register()
	w, scale, panel, next := f.Register(), f.Register(), f.Register(), f.Register()
	rows, chunks, rowStride, scaleStride, panelStride, by := f.Register(), f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"panel", rowPanel}, {"w", rowW}, {"scale", rowScale}, {"next", rowNext}, {"rows", rows},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}, {"panelStride", panelStride}})
	decode, numbers := body(f, w, scale, panel)
	f.Loop("row", rows, func() {
		f.Op("MOVD", rowW, w)
		f.Op("MOVD", rowScale, scale)
		f.Op("MOVD", rowPanel, panel)
		f.Op("MOVD", rowNext, next)
		f.Op("MOVD", f.Field(args, "chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			for offset := 0; offset < stored*chunk; offset += 64 {
				f.Prefetch(next.At(offset))
			}
			decode()
			f.Op("ADD", stored*chunk, w)
			f.Op("ADD", stored*chunk, next)
			f.Op("ADD", 2*chunk, panel)
		})
		f.Op("ADD", panelStride, rowPanel)
		f.Op("ADD", rowStride, rowW)
		f.Op("ADD", rowStride, rowNext)
		f.Op("ADD", scaleStride, rowScale)
	})
	neonMarkSpecial(f, args, by, numbers)
	f.Return()
}

func neonPanelBF16(f *asm.Func, w, _, panel asm.GP) (func(), func(string)) {
	v := f.Vectors(8)
	return func() {
		f.LoadMany(w.At(0), v...)
		f.StoreMany(panel.At(0), v...)
	}, nil
}

// neonPanelMXFP8 multiplies values by their scale in float32, where that is exact in
// bfloat16.
func neonPanelMXFP8(f *asm.Func, w, scale, panel asm.GP) (func(), func(string)) {
	const leastScale, mostScale = 10, 246
	v, factor, two8, spare := f.Vectors(4), f.Vector(), f.Vector(), f.Vectors(2)
	r := neonLent{scales: f.Register(), code: f.Register()}
	outside, is := f.Register(), f.Register()
	h := newNEONHalves(f)
	f.LoadTable("e8m0", r.scales)
	f.LoadTable("two8", r.code)
	f.Load(r.code.At(0), two8)
	f.Op("MOVD", 0, outside)
	return func() {
			for c := 0; c < chunk; c += 16 {
				if c%32 == 0 {
					f.LoadMany(w.At(c), spare...)
					for _, s := range spare {
						h.note(f, s, s)
					}
					r.lookUp(f, scale.At(c/32), factor)
					f.Word("FMUL", two8, factor, factor)
					f.Op("SUB", leastScale, r.code)
					f.Op("CMP", mostScale-leastScale, r.code)
					f.Op("CSET", "HI", is)
					f.Op("ORR", is, outside)
				}
				f.Load(w.At(c), v[3])
				h.widen(f, v)
				for _, value := range v {
					f.Word("FMUL.E", factor.Lane(0), value, value)
				}
				for i := 0; i < 4; i += 2 {
					upperHalves(f, v[i:i+2], v[i/2])
				}
				f.StoreMany(panel.At(2*c), v[:2]...)
			}
			f.Op("ADD", chunk/32, scale)
		}, func(label string) {
			special := f.Label("special")
			f.Op("CBNZ", outside, special)
			h.numbers(f, r.code, label)
			f.Mark(special)
		}
}

// neonProductPairs is productPairs. Sixteen columns are loaded at a time, of each row with
// one instruction.
func neonProductPairs(file *asm.File, n int) {
	f := file.Func(asm.NEON, fmt.Sprintf("product%dx%dPairsNEON(a *productPairsArgs)", pairsPanelRows, n), fmt.Sprintf(
		"adds the products of pairs of columns of panel[j] and x[i] to lanes of sums[j][i], in float32 and in the order of the columns, for j = 0 … %d and i < %d; first: to zeros.",
		pairsPanelRows-1, n))
	args, memory, chunks, xStride, step := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	panels, rows, first := f.Registers(pairsPanelRows), f.Registers(n), f.Register()
	sums, weights := f.Vectors(pairsPanelRows*n), f.Vectors(2)
	var xs [pairsPanelX][]asm.Vec
	for i := range n {
		xs[i] = f.Vectors(2)
	}
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"panel", panels[0]}, {"x", rows[0]}, {"sums", memory}, {"chunks", chunks},
		{"xStride", xStride}, {"step", step}, {"first", first}})
	for j := 1; j < pairsPanelRows; j++ {
		f.Op("ADD", 2*pairsPanelStride, panels[j-1], panels[j])
	}
	rowsApart(f, rows[0], xStride, rows)
	begun := f.Label("begun")
	f.Clear(sums...)
	f.Op("CBNZ", first, begun)
	f.LoadMany(memory.At(0), sums...)
	f.Mark(begun)
	f.Loop("chunk", chunks, func() {
		for c := 0; c < chunk; c += 16 {
			for i := range n {
				f.LoadMany(rows[i].At(2*c), xs[i]...)
			}
			for j, p := range panels {
				f.LoadMany(p.At(2*c), weights...)
				for k, w := range weights {
					for i := range n {
						f.Word("BFDOT", xs[i][k], w, sums[j*n+i])
					}
				}
			}
		}
		for _, p := range panels {
			f.Op("ADD", 2*chunk, p)
		}
		for _, x := range rows {
			f.Op("ADD", step, x)
		}
	})
	f.StoreMany(memory.At(0), sums...)
	f.Return()
}
