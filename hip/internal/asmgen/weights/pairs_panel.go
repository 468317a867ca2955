package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

const (
	// pairsPanelRows × pairsPanelX is the rows of weights and of x that a product of a panel
	// takes at most: 24 sums, and registers for what is multiplied.
	pairsPanelRows = 8
	pairsPanelX    = 3
	// pairsPanelColumns is the columns of a panel. A panel and the same columns of the rows of
	// x stay in a core's second cache; the sums are brought in and out once a panel.
	pairsPanelColumns = 3072
	// pairsPanelStride is the values from row to row of a panel: odd in units of a cache
	// line.
	pairsPanelStride = pairsPanelColumns + 32
)

// pairsPanelFile holds what decodes rows to panels of bfloat16, and the products of those.
func pairsPanelFile() *asm.File {
	f := file("pairs_panel", "Panels of weights as bfloat16, and their products with rows of x.",
		asm.Constant{Name: "pairsPanelRows", Value: pairsPanelRows}, asm.Constant{Name: "maxPanelX", Value: pairsPanelX},
		asm.Constant{Name: "pairsPanelStride", Value: pairsPanelStride})
	decodePairs(f, "BF16", "", 2, decodePairsBF16)
	decodePairs(f, "MXFP8", docSpecialPairs, 1, decodePairsMXFP8)
	for n := 1; n <= pairsPanelX; n++ {
		productPairs(f, n)
	}
	return f
}

const docSpecialPairs = ", and sets special if a value is NaN or a scale is outside 2^−117 … 2^119, where a product with it may not be a normal bfloat16"

// pairsDecoder is the registers of a function that decodes to bfloat16.
type pairsDecoder struct {
	w, scale, panel, chunks, some, by asm.GP
}

// decodePairs writes a function of a format with values of that many bytes. body says how a
// chunk is decoded, in the order of split's functions.
func decodePairs(file *asm.File, format, special string, stored int,
	body func(f *asm.Func, r pairsDecoder, each func(chunk func())) (numbers func(label string)),
) {
	f := file.Func(asm.BF16, fmt.Sprintf("decodePairs%s(a *decodeArgs)", format),
		"decodes a panel of "+format+" to bfloat16"+special+".")
	args := f.Take(asm.DI)
	rowW, rowScale, rowPanel, rowNext := f.Take(asm.R15), f.Take(asm.BX), f.Take(asm.SI), f.Take(asm.R13)
	next := f.Take(asm.R14)
	r := pairsDecoder{w: f.Take(asm.R11), scale: f.Take(asm.R12), panel: f.Take(asm.R10), chunks: f.Take(asm.DX), some: f.Take(asm.R9), by: f.Take(asm.AX)}
	field := func(name string) asm.Mem { return f.Field(args, name) }
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", field("panel"), rowPanel)
	f.Op("MOVQ", field("w"), rowW)
	f.Op("MOVQ", field("scale"), rowScale)
	f.Op("MOVQ", field("next"), rowNext)
	numbers := body(f, r, func(chunks func()) {
		f.Loop("row", field("rows"), func() {
			f.Op("MOVQ", rowW, r.w)
			f.Op("MOVQ", rowScale, r.scale)
			f.Op("MOVQ", rowPanel, r.panel)
			f.Op("MOVQ", rowNext, next)
			f.Op("MOVQ", field("chunks"), r.chunks)
			chunks()
			f.Op("ADDQ", field("panelStride"), rowPanel)
			f.Op("ADDQ", field("rowStride"), rowW)
			f.Op("ADDQ", field("rowStride"), rowNext)
			f.Op("ADDQ", field("scaleStride"), rowScale)
		})
	})
	markSpecial(f, args, numbers)
	f.Return()
}

// goOn asks for a chunk of the next panel and moves on.
func (r pairsDecoder) goOn(f *asm.Func, bytes int) {
	for offset := 0; offset < bytes; offset += 64 {
		f.Op("PREFETCHT1", asm.R14.At(offset))
	}
	f.Op("ADDQ", bytes, r.w)
	f.Op("ADDQ", bytes, asm.R14)
	f.Op("ADDQ", 2*chunk, r.panel)
}

func decodePairsBF16(f *asm.Func, r pairsDecoder, each func(chunks func())) func(string) {
	v := f.Vectors(2)
	each(func() {
		f.Loop("chunk", r.chunks, func() {
			for i := range 2 {
				f.Op("VMOVDQU64", r.w.At(64*i), v[i])
				f.Op("VMOVDQU64", v[i], r.panel.At(64*i))
			}
			r.goOn(f, 2*chunk)
		})
	})
	return nil
}

// decodePairsMXFP8 adds a scale to the exponents of the values that are not zero.
func decodePairsMXFP8(f *asm.Func, r pairsDecoder, each func(chunks func())) func(string) {
	const leastScale, mostScale = 10, 246
	t, scales, delta, lane := f.Vectors(3), f.Vector(), f.Vector(), f.Vector()
	seen, outside, magnitude, bias, least := f.Vector(), f.Vector(), f.Vector(), f.Vector(), f.Vector()
	l := newUnpackedE4M3(f, "e4m3HighMarked", r.by)
	f.Clear(seen, outside)
	f.Broadcast(0x7fff7fff, r.by, magnitude)
	f.Broadcast(127<<16|127, r.by, bias)
	f.Broadcast(leastScale<<16|leastScale, r.by, least)
	each(func() {
		scalesLoop(f, r.chunks, r.some, r.by, func() {
			f.Op("VMOVDQA64", bias, scales) // for formats without scales
			f.Op("VPMOVZXBW", r.scale.At(0), asm.K1, scales)
			f.Op("ADDQ", 16, r.scale)
			f.Op("VPSUBW", least, scales, delta)
			f.Op("VPMAXUW", delta, outside, outside)
			f.Op("VPSUBW", bias, scales, scales)
			f.Op("VPSLLW", 7, scales, scales)
			f.Op("VMOVDQU64", asm.Table("wordOfScale"), lane)
		}, func() {
			upper, high, lower := t[0], t[1], t[2]
			l.words(f, r.w.At(0), upper, high, lower, seen)
			f.Op("VPERMW", scales, lane, delta)
			f.Op("VPADDW", asm.Table("nextWords"), lane, lane)
			for i, v := range []asm.Vec{lower, upper} {
				f.Op("VPTESTMW", magnitude, v, asm.K2)
				f.Op("VPADDW", delta, v, asm.K2, v)
				f.Op("VMOVDQU64", v, r.panel.At(64*i))
			}
			r.goOn(f, chunk)
		})
	})
	return func(label string) {
		const greater = 6
		f.Op("VPMOVB2M", seen, asm.K1)
		f.Broadcast((mostScale-leastScale)<<16|(mostScale-leastScale), r.by, least)
		f.Op("VPCMPUW", greater, least, outside, asm.K2)
		f.Op("KORTESTQ", asm.K1, asm.K2)
		f.Op("JZ", label)
	}
}

// productPairs writes the function of n rows of x
//
//	sums[j][i] += panel[j][·] · x[i][·]      j = 0 … 7, by lanes
//
// x is one of the parts; from a chunk of it to the next there are step bytes.
func productPairs(file *asm.File, n int) {
	f := file.Func(asm.BF16, fmt.Sprintf("product%dx%dPairs(a *productPairsArgs)", pairsPanelRows, n), fmt.Sprintf(
		"adds the products of pairs of columns of panel[j] and x[i] to lanes of sums[j][i], in float32 and in the order of the columns, for j = 0 … %d and i < %d; first: to zeros.",
		pairsPanelRows-1, n))
	args, chunks, memory, panel := f.Take(asm.DI), f.Take(asm.R10), f.Take(asm.CX), f.Take(asm.AX)
	x, xStride, step := f.Take(asm.SI), f.Take(asm.R9), f.Take(asm.R8)
	rows := []asm.Mem{x.At(0), x.At(0).Index(xStride, 1), x.At(0).Index(xStride, 2)}
	sums, xs, weights := f.Vectors(pairsPanelRows*n), f.Vectors(n), f.Vectors(4)
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "panel"), panel)
	f.Op("MOVQ", f.Field(args, "x"), x)
	f.Op("MOVQ", f.Field(args, "sums"), memory)
	f.Op("MOVQ", f.Field(args, "chunks"), chunks)
	f.Op("MOVQ", f.Field(args, "step"), step)
	f.Op("MOVQ", f.Field(args, "xStride"), xStride)
	begun := f.Label("begun")
	f.Clear(sums...)
	f.Op("CMPQ", f.Field(args, "first"), 0)
	f.Op("JNE", begun)
	for i, s := range sums {
		f.Op("VMOVUPS", memory.At(64*i), s)
	}
	f.Mark(begun)
	f.Loop("chunk", chunks, func() {
		for half := range 2 {
			for i, v := range xs {
				f.Op("VMOVDQU64", rows[i].Plus(64*half), v)
			}
			for j := range pairsPanelRows {
				w := weights[j%4]
				f.Op("VMOVDQU64", panel.At(2*pairsPanelStride*j+64*half), w)
				for i, v := range xs {
					f.AddPairs(w, v, sums[j*n+i])
				}
			}
		}
		f.Op("ADDQ", 2*chunk, panel)
		f.Op("ADDQ", step, x)
	})
	for i, s := range sums {
		f.Op("VMOVUPS", s, memory.At(64*i))
	}
	f.Return()
}
