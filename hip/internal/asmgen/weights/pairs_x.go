package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// splitFile holds what makes bfloat16 of rows of x.
func splitFile() *asm.File {
	f := file("split", "Rows of x as one to three bfloat16 that add up to them, as far as they can.",
		asm.Constant{Name: "parts", Value: partsMost})
	for parts := 1; parts <= partsMost; parts++ {
		split(f, "BF16", "in the order of the columns", parts, func(v int) (lower, upper int) { return 32 * v, 32*v + 16 })
		split(f, "MXFP8", "in the order in which bytes are unpacked", parts, func(v int) (lower, upper int) { return 16 * v, 64 + 16*v })
	}
	return f
}

// split writes a function that rounds to the nearest bfloat16, and what is left of a value
// once more. at says where the two halves of the v-th 16 columns of a chunk go.
func split(file *asm.File, order, doc string, parts int, at func(v int) (lower, upper int)) {
	f := file.Func(asm.BF16, fmt.Sprintf("split%d%s(a *splitArgs)", parts, order), fmt.Sprintf(
		"rounds float32 to the sum of %d bfloat16, each the nearest to what is left, %s: 64 values of the first, then of the next. "+
			"What is subnormal becomes zero, what is finite stays so.", parts, doc))
	args, by, x, out, chunks := f.Take(asm.DI), f.Take(asm.CX), f.Take(asm.SI), f.Take(asm.AX), f.Take(asm.R10)
	v := f.Vectors(4)
	value, near, part, sign := v[0], v[1], v[2], v[3]
	infinity, magnitude, largest := f.Vector(), f.Vector(), f.Vector()
	finite := asm.K1
	f.Op("MOVQ", f.Arg("a"), args)
	f.Broadcast(0x7f800000, by, infinity)
	f.Broadcast(0x7fffffff, by, magnitude)
	f.Broadcast(0x7f7f0000, by, largest)
	f.Op("MOVQ", f.Field(args, "x"), x)
	f.Op("MOVQ", f.Field(args, "to"), out)
	f.Op("MOVQ", f.Field(args, "chunks"), chunks)
	const notEqual = 4
	f.Loop("chunk", chunks, func() {
		for i := range chunk / 16 {
			f.Op("VMOVUPS", x.At(64*i), value)
			f.Op("VPANDD", infinity, value, near)
			f.Op("VPCMPD", notEqual, infinity, near, finite)
			// The largest float32 would be rounded to infinity.
			f.Op("VPANDD", magnitude, value, near)
			f.Op("VPANDND", value, magnitude, sign)
			f.Op("VPMINUD", largest, near, near)
			f.Op("VPORD", sign, near, near)
			f.Op("VPBLENDMD", near, value, finite, near)
			for p := range parts {
				f.Narrow(near, part)
				lower, upper := at(i)
				f.Op("VMOVDQU", part.X(), out.At(2*chunk*p+lower))
				f.Op("VEXTRACTI128", 1, part.Y(), out.At(2*chunk*p+upper))
				if p+1 < parts {
					f.Op("VPMOVZXWD", part.Y(), part)
					f.Op("VPSLLD", 16, part, part)
					if p == 0 {
						f.Op("VSUBPS.Z", part, value, finite, near)
					} else {
						f.Op("VSUBPS", part, near, near)
					}
				}
			}
		}
		f.Op("ADDQ", 4*chunk, x)
		f.Op("ADDQ", 2*chunk*parts, out)
	})
	f.Return()
}
