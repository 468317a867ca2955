package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonDotFile holds the products of rows of stored weights with one vector for arm64, as
// dotFile does for amd64.
func neonDotFile() *asm.File {
	f := neonFile("dot", "Products of stored rows, one after the other, with one row of x.",
		asm.Constant{Name: "chunkColumns", Value: chunk})
	for _, d := range neonDecoders() {
		neonDot(f, d)
	}
	return f
}

// neonDot writes a function. Where there are scales, each half of the columns that share one
// has a sum.
func neonDot(file *asm.File, d neonDecoder) {
	const sumsPlain, sumsScaled = 8, 4
	lanes := asm.NEON.Lanes()
	doc := fmt.Sprintf("computes y[j] = Σ w[j][c]·x[c] for rows stored as %s: products and sums in float32, "+
		"column c in lane c mod %d of sum c/%d mod %d.", d.format, lanes, lanes, sumsPlain)
	if d.scale > 0 {
		doc = fmt.Sprintf(docScaled, d.format, d.columns)
	}
	f := file.Func(asm.NEON, fmt.Sprintf("dot%sNEON(a *dotArgs)", d.format), doc)
	args, rowW, rowScale, rowX, y := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	rows, chunks, rowStride, scaleStride := f.Register(), f.Register(), f.Register(), f.Register()
	w, scale, x, left := f.Register(), f.Register(), f.Register(), f.Register()
	r := neonLent{scales: f.Register(), code: f.Register()}

	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"w", rowW}, {"scale", rowScale}, {"x", rowX}, {"y", y}, {"rows", rows}, {"chunks", chunks},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}})
	weights, xs := f.Vectors(4), f.Vectors(4)
	sums := f.Vectors(sumsPlain)
	var blocks []asm.Vec
	var factor asm.Vec
	if d.scale > 0 {
		sums, blocks = sums[:sumsScaled], sums[sumsScaled:]
		factor = f.Vector()
	}
	decoding := d.begin(f, r)
	var two8 asm.Vec
	if d.short8 {
		two8 = f.Vector()
		f.LoadTable("two8", r.code)
		f.Load(r.code.At(0), two8)
	}
	f.Loop("row", rows, func() {
		f.Clear(sums...)
		call(decoding.forget)
		f.Op("MOVD", rowW, w)
		f.Op("MOVD", rowScale, scale)
		f.Op("MOVD", rowX, x)
		f.Op("MOVD", chunks, left)
		f.Loop("chunk", left, func() {
			for offset := 0; offset < d.bytes(chunk); offset += 64 {
				if d.scale == 0 {
					f.Prefetch(w.At(prefetchRowAlone + offset))
					continue
				}
				f.Prefetch(w.At(prefetchRow + offset))
			}
			if decoding.note != nil {
				decoding.note(w.At(0), weights[:2])
			}
			for i := 0; i < chunk; i += 16 {
				decoding.floats(w.At(d.bytes(i)), weights)
				f.LoadMany(x.At(4*i), xs...)
				of := 0 // the sums of the columns that share a scale
				if d.scale > 0 {
					of = i / d.columns % 2 * 2
				}
				for k := range weights {
					if d.scale == 0 {
						f.Op("VFMLA", xs[k], weights[k], sums[(i/lanes+k)%len(sums)])
						continue
					}
					block := blocks[of+k%2]
					if i%d.columns == 0 && k < 2 {
						f.Word("FMUL", xs[k], weights[k], block)
						continue
					}
					f.Op("VFMLA", xs[k], weights[k], block)
				}
				if d.scale > 0 && (i+16)%d.columns == 0 {
					decoding.factor(scale.At(d.scaleBytes(i)), factor)
					for k := range 2 {
						f.Word("FMLA.E", factor.Lane(0), blocks[of+k], sums[of+k])
					}
				}
			}
			f.Op("ADD", d.bytes(chunk), w)
			if d.scale > 0 {
				f.Op("ADD", d.scaleBytes(chunk), scale)
			}
			f.Op("ADD", 4*chunk, x)
		})
		for n := len(sums) / 2; n > 0; n /= 2 {
			for i := range n {
				f.Word("FADD", sums[i+n], sums[i], sums[i])
			}
		}
		sum := sums[0]
		f.Word("FADDP", sum, sum, sum)
		f.Word("FADDP", sum, sum, sum)
		if d.short8 {
			f.Word("FMUL", two8, sum, sum)
		}
		if decoding.numbers != nil {
			numbers := f.Label("numbers")
			decoding.numbers(numbers)
			f.LoadTable("quietNaN", r.code)
			f.Op("FMOVS", r.code.At(0), sum.As("F"))
			f.Mark(numbers)
		}
		f.Op("FMOVS", sum.As("F"), y.At(0))
		f.Op("ADD", 4, y)
		f.Op("ADD", rowStride, rowW)
		f.Op("ADD", scaleStride, rowScale)
	})
	f.Return()
}

// loaded is a field of the arguments and the register that it is loaded to.
type loaded struct {
	name string
	to   asm.GP
}

func loadFields(f *asm.Func, args asm.GP, fields []loaded) {
	for _, l := range fields {
		f.Op("MOVD", f.Field(args, l.name), l.to)
	}
}
