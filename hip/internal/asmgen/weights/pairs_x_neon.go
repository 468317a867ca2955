package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonSplitFile holds what makes bfloat16 of rows of x for arm64.
func neonSplitFile() *asm.File {
	f := neonFile("split", "Rows of x as bfloat16.")
	neonSplit(f, "split1NEON", ", in the order of the columns", func(f *asm.Func, of [2]asm.Vec, part asm.Vec, out asm.GP, c int) {
		f.Word("BFCVTN", of[0], part)
		f.Word("BFCVTN2", of[1], part)
		f.Store(part, out.At(2*c))
	}, 2*chunk)
	neonSplit(f, "splitMatrixNEON", ", four columns at a time, 16 bytes apart: another row has room between them", func(f *asm.Func, of [2]asm.Vec, part asm.Vec, out asm.GP, c int) {
		for i, v := range of {
			f.Word("BFCVTN", v, part)
			f.Op("FMOVD", part.As("F"), out.At(4*c+16*i))
		}
	}, 4*chunk)
	return f
}

// neonSplit is split for one part. store writes the parts of eight columns from c on, of a
// chunk that takes that many bytes.
func neonSplit(file *asm.File, name, order string, store func(f *asm.Func, of [2]asm.Vec, part asm.Vec, out asm.GP, c int), bytes int) {
	f := file.Func(asm.NEON, name+"(a *splitArgs)", "rounds float32 to the nearest bfloat16"+order+". What is finite stays so.")
	args, x, out, chunks, by := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	values, nears, finite := f.Vectors(2), f.Vectors(2), f.Vectors(2)
	part, magnitude, largest := f.Vector(), f.Vector(), f.Vector()
	b := func(v asm.Vec) asm.Vec { return v.As("B16") }
	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"x", x}, {"to", out}, {"chunks", chunks}})
	f.Broadcast(0x7fffffff, by, magnitude)
	f.Broadcast(0x7f7f0000, by, largest)
	f.Loop("chunk", chunks, func() {
		for c := 0; c < chunk; c += 8 {
			f.LoadMany(x.At(4*c), values...)
			for i, v := range values {
				near := nears[i]
				f.Word("FSUB", v, v, finite[i]) // zero, or NaN
				f.Word("FCMEQ", finite[i], finite[i], finite[i])
				// The largest float32 would be rounded to infinity.
				f.Op("VAND", b(magnitude), b(v), b(near))
				f.Op("VUMIN", largest, near, near)
				f.Op("VBIF", b(magnitude), b(v), b(near)) // the sign
				f.Op("VBIF", b(finite[i]), b(v), b(near))
			}
			store(f, [2]asm.Vec(nears), part, out, c)
		}
		f.Op("ADD", 4*chunk, x)
		f.Op("ADD", bytes, out)
	})
	f.Return()
}
