package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// splitFile holds what brings rows of x into other forms.
func splitFile() *asm.File {
	f := file("split", "Rows of x as one or two bfloat16, and as float32 in another order.")
	evenOdd(f)
	for parts := 1; parts <= partsMost; parts++ {
		split(f, "BF16", "in the order of the columns", parts, func(v int) (lower, upper int) { return 32 * v, 32*v + 16 })
		split(f, "MXFP8", "in the order in which bytes are unpacked", parts, func(v int) (lower, upper int) { return 16 * v, 64 + 16*v })
	}
	return f
}

// evenOdd writes what orders columns as the double words of bfloat16 have them.
func evenOdd(file *asm.File) {
	f := file.Func(asm.AVX512, "evenOddAVX512(a *evenOddArgs)", "copies the even of each 32 columns, and then the odd ones.")
	args, x, out, chunks := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.AX), f.Take(asm.R10)
	v := f.Vectors(4)
	even, odd, lower, upper := v[0], v[1], v[2], v[3]
	evens, odds := f.Vector(), f.Vector()
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("VMOVDQU64", asm.Table("evenLanes"), evens)
	f.Op("VMOVDQU64", asm.Table("oddLanes"), odds)
	f.Op("MOVQ", f.Field(args, "x"), x)
	f.Op("MOVQ", f.Field(args, "to"), out)
	f.Op("MOVQ", f.Field(args, "chunks"), chunks)
	f.Loop("chunk", chunks, func() {
		for i := range chunk / 32 {
			f.Op("VMOVUPS", x.At(128*i), lower)
			f.Op("VMOVUPS", x.At(128*i+64), upper)
			f.Op("VMOVDQA64", evens, even)
			f.Op("VMOVDQA64", odds, odd)
			f.Op("VPERMI2PS", upper, lower, even)
			f.Op("VPERMI2PS", upper, lower, odd)
			f.Op("VMOVUPS", even, out.At(128*i))
			f.Op("VMOVUPS", odd, out.At(128*i+64))
		}
		f.Op("ADDQ", 4*chunk, x)
		f.Op("ADDQ", 4*chunk, out)
	})
	f.Return()
}

// split writes a function that rounds to the nearest bfloat16, and what is left of a value
// once more. at says where the two halves of the v-th 16 columns of a chunk go.
func split(file *asm.File, order, doc string, parts int, at func(v int) (lower, upper int)) {
	f := file.Func(asm.BF16, fmt.Sprintf("split%d%s(a *splitArgs)", parts, order), fmt.Sprintf(
		"rounds float32 to %s of bfloat16, each the nearest to what is left, %s: 64 values of a part step bytes after the last ones, and a part another bytes after the one before. "+
			"What is subnormal becomes zero, what is finite stays so.", plural(parts, "part"), doc))
	args, by, x, out, chunks := f.Take(asm.DI), f.Take(asm.CX), f.Take(asm.SI), f.Take(asm.AX), f.Take(asm.R10)
	step, another := f.Take(asm.R8), f.Take(asm.R9)
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
	f.Op("MOVQ", f.Field(args, "step"), step)
	f.Op("MOVQ", f.Field(args, "another"), another)
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
				to := func(offset int) asm.Mem {
					if p == 0 {
						return out.At(offset)
					}
					return out.At(offset).Index(another, 1)
				}
				f.Op("VMOVDQU", part.X(), to(lower))
				f.Op("VEXTRACTI128", 1, part.Y(), to(upper))
				if p+1 < parts {
					f.Op("VPMOVZXWD", part.Y(), part)
					f.Op("VPSLLD", 16, part, part)
					f.Op("VSUBPS.Z", part, value, finite, near)
				}
			}
		}
		f.Op("ADDQ", 4*chunk, x)
		f.Op("ADDQ", step, out)
	})
	f.Return()
}
