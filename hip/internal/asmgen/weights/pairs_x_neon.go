package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonSplitFile holds what makes bfloat16 of rows of x for arm64.
func neonSplitFile() *asm.File {
	f := neonFile("split", "Rows of x as bfloat16.")
	neonSplit(f)
	return f
}

// neonSplit is split for one part, in the order of the columns.
func neonSplit(file *asm.File) {
	f := file.Func(asm.NEON, "split1NEON(a *splitArgs)", "rounds float32 to the nearest bfloat16. What is finite stays so.")
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
			f.Word("BFCVTN", nears[0], part)
			f.Word("BFCVTN2", nears[1], part)
			f.Store(part, out.At(2*c))
		}
		f.Op("ADD", 4*chunk, x)
		f.Op("ADD", 2*chunk, out)
	})
	f.Return()
}
