package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonPanelFile holds the products of decoded panels for arm64, as panelFile does for
// amd64.
func neonPanelFile() *asm.File {
	const most = 4
	f := neonFile("panel", "Products of panels of float32 with some rows of x.")
	for n := 1; n <= most; n++ {
		neonProduct(f, n)
	}
	neonSums(f)
	return f
}

// neonProduct writes the function of n rows of x, see product. Eight columns are loaded at
// a time, of each row with one instruction.
func neonProduct(file *asm.File, n int) {
	lanes := asm.NEON.Lanes()
	f := file.Func(asm.NEON, fmt.Sprintf("product4x%dNEON(a *productPanelArgs)", n), fmt.Sprintf(
		"adds panel[j][c]·x[i][c] to lane c mod %d of sums[j][i], in float32 and in the order of the columns, for j = 0 … 3 and i < %d.",
		lanes, n))
	args, memory, chunks, panelStride, xStride := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	panels, rows := f.Registers(panelRows), f.Registers(n)
	sums, weights := f.Vectors(panelRows*n), f.Vectors(2)
	var xs [4][]asm.Vec
	for i := range n {
		xs[i] = f.Vectors(2)
	}
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"panel", panels[0]}, {"x", rows[0]}, {"sums", memory}, {"chunks", chunks},
		{"panelStride", panelStride}, {"xStride", xStride}})
	rowsApart(f, panels[0], panelStride, panels)
	rowsApart(f, rows[0], xStride, rows)
	f.LoadMany(memory.At(0), sums...)
	f.Loop("chunk", chunks, func() {
		for c := 0; c < chunk; c += 2 * lanes {
			for i := range n {
				f.LoadMany(rows[i].At(4*c), xs[i]...)
			}
			for j := range panelRows {
				f.LoadMany(panels[j].At(4*c), weights...)
				for k, w := range weights {
					for i := range n {
						f.Op("VFMLA", xs[i][k], w, sums[j*n+i])
					}
				}
			}
		}
		for _, r := range append(append([]asm.GP{}, panels...), rows...) {
			f.Op("ADD", 4*chunk, r)
		}
	})
	f.StoreMany(memory.At(0), sums...)
	f.Return()
}

// neonSums writes the function that adds up the lanes of vectors.
func neonSums(file *asm.File) {
	f := file.Func(asm.NEON, "sumLanesNEON(a *sumLanesArgs)",
		"computes y[i] = Σ lanes of sums[i] for n vectors, neighbors first.")
	args, sums, y, n := f.Register(), f.Register(), f.Register(), f.Register()
	v := f.Vector()
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"sums", sums}, {"y", y}, {"n", n}})
	f.Loop("vector", n, func() {
		f.Load(sums.At(0), v)
		f.Word("FADDP", v, v, v)
		f.Word("FADDP", v, v, v)
		f.Op("FMOVS", v.As("F"), y.At(0))
		f.Op("ADD", asm.NEON.Bytes, sums)
		f.Op("ADD", 4, y)
	})
	f.Return()
}
