package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// panelRows is the rows of weights that a product takes at a time.
const panelRows = 4

// panelFile holds the products of decoded panels with up to as many rows of x as
// registers allow, and what adds up their lanes.
func panelFile() *asm.File {
	f := file("panel", "Products of panels of float32 with some rows of x.")
	for _, level := range []asm.Level{asm.AVX2, asm.AVX512} {
		most := 4
		if level.Registers == 16 {
			most = 3
		}
		for n := 1; n <= most; n++ {
			product(f, level, n, most)
		}
		sums(f, level)
	}
	return f
}

// product writes the function of n rows of x
//
//	sums[j][i] += panel[j][·] · x[i][·]      j = 0 … 3, by lanes
func product(file *asm.File, level asm.Level, n, most int) {
	f := file.Func(level, fmt.Sprintf("product4x%d%s(a *productPanelArgs)", n, level.Name), fmt.Sprintf(
		"adds panel[j][c]·x[i][c] to lane c mod %d of sums[j][i], in float32 and in the order of the columns, for j = 0 … 3 and i < %d.",
		level.Lanes(), n))
	args, chunks, memory := f.Take(asm.DI), f.Take(asm.R10), f.Take(asm.CX)
	panel, panelStride, panel3 := f.Take(asm.AX), f.Take(asm.R8), f.Take(asm.BX)
	x, xStride, x3 := f.Take(asm.SI), f.Take(asm.R9), f.Take(asm.DX)
	sums, xs := f.Vectors(panelRows * most)[:panelRows*n], f.Vectors(most)
	weights := f.Vectors(min(panelRows, level.Registers-panelRows*most-most))

	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "panel"), panel)
	f.Op("MOVQ", f.Field(args, "x"), x)
	f.Op("MOVQ", f.Field(args, "sums"), memory)
	f.Op("MOVQ", f.Field(args, "chunks"), chunks)
	f.Op("MOVQ", f.Field(args, "panelStride"), panelStride)
	f.Op("MOVQ", f.Field(args, "xStride"), xStride)
	f.Third(panel, panelStride, panel3)
	f.Third(x, xStride, x3)
	panels, rows := asm.Rows(panel, panelStride, panel3), asm.Rows(x, xStride, x3)
	for i, s := range sums {
		f.Op("VMOVUPS", memory.At(i*level.Bytes), s)
	}
	f.Loop("chunk", chunks, func() {
		for k := range chunk / level.Lanes() {
			for i := range n {
				f.Op("VMOVUPS", rows[i].Plus(k*level.Bytes), xs[i])
			}
			for j := range panelRows {
				w := weights[j%len(weights)]
				f.Op("VMOVUPS", panels[j].Plus(k*level.Bytes), w)
				for i := range n {
					f.Op("VFMADD231PS", xs[i], w, sums[j*n+i])
				}
			}
		}
		for _, r := range []asm.GP{panel, panel3, x, x3} {
			f.Op("ADDQ", 4*chunk, r)
		}
	})
	for i, s := range sums {
		f.Op("VMOVUPS", s, memory.At(i*level.Bytes))
	}
	f.Return()
}

// sums writes the function that adds up the lanes of vectors.
func sums(file *asm.File, level asm.Level) {
	f := file.Func(level, "sumLanes"+level.Name+"(a *sumLanesArgs)",
		"computes y[i] = Σ lanes of sums[i] for n vectors, halving a vector each time.")
	args, sums, y, n := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.DX), f.Take(asm.R8)
	v := f.Vectors(2)
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "sums"), sums)
	f.Op("MOVQ", f.Field(args, "y"), y)
	f.Op("MOVQ", f.Field(args, "n"), n)
	f.Loop("vector", n, func() {
		f.Op("VMOVUPS", sums.At(0), v[0])
		sumLanes(f, v[0], v[0], v[1])
		f.Op("VMOVSS", v[0].X(), y.At(0))
		f.Op("ADDQ", level.Bytes, sums)
		f.Op("ADDQ", 4, y)
	})
	f.Return()
}
