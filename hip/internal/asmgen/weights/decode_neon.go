package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// neonDecodeFile holds what decodes panels to float32 for arm64, as decodeFile does for
// amd64.
func neonDecodeFile() *asm.File {
	f := neonFile("decode", "Panels of stored rows as float32.")
	for _, d := range neonDecoders() {
		neonDecode(f, d)
	}
	return f
}

func neonDecode(file *asm.File, d neonDecoder) {
	doc := "decodes a panel of " + d.format + ", each value rounded once"
	if d.findsNaN {
		doc += ", and sets special if one of them is NaN, which it does not decode"
	}
	f := file.Func(asm.NEON, fmt.Sprintf("decode%sNEON(a *decodeArgs)", d.format), doc+".")
	args := f.Register()
	rowW, rowScale, rowPanel, rowNext := f.Register(), f.Register(), f.Register(), f.Register()
	w, scale, panel, next := f.Register(), f.Register(), f.Register(), f.Register()
	rows, chunks, rowStride, scaleStride, panelStride := f.Register(), f.Register(), f.Register(), f.Register(), f.Register()
	r := neonLent{scales: f.Register(), code: f.Register()}
	values, factor := f.Vectors(4), f.Vector()

	f.Op("MOVD", f.Arg("a"), args)
	loadFields(f, args, []loaded{{"panel", rowPanel}, {"w", rowW}, {"scale", rowScale}, {"next", rowNext}, {"rows", rows},
		{"rowStride", rowStride}, {"scaleStride", scaleStride}, {"panelStride", panelStride}})
	decoding := d.begin(f, r)
	var two8 asm.Vec
	if d.short8 {
		two8 = f.Vector()
		f.LoadTable("two8", r.code)
		f.Load(r.code.At(0), two8)
	}
	f.Loop("row", rows, func() {
		f.Op("MOVD", rowW, w)
		f.Op("MOVD", rowScale, scale)
		f.Op("MOVD", rowPanel, panel)
		f.Op("MOVD", rowNext, next)
		f.Op("MOVD", f.Field(args, "chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			for offset := 0; offset < d.bytes(chunk); offset += 64 {
				f.Prefetch(next.At(offset))
			}
			if decoding.note != nil {
				decoding.note(w.At(0), values[:2])
			}
			for c := 0; c < chunk; c += 16 {
				if d.scale > 0 && c%d.columns == 0 {
					decoding.factor(scale.At(d.scaleBytes(c)), factor)
				}
				decoding.floats(w.At(d.bytes(c)), values)
				for _, v := range values {
					if d.scale > 0 {
						f.Word("FMUL.E", factor.Lane(0), v, v)
					}
					if d.short8 {
						f.Word("FMUL", two8, v, v)
					}
				}
				f.StoreMany(panel.At(4*c), values...)
			}
			f.Op("ADD", d.bytes(chunk), w)
			f.Op("ADD", d.bytes(chunk), next)
			if d.scale > 0 {
				f.Op("ADD", d.scaleBytes(chunk), scale)
			}
			f.Op("ADD", 4*chunk, panel)
		})
		f.Op("ADD", panelStride, rowPanel)
		f.Op("ADD", rowStride, rowW)
		f.Op("ADD", rowStride, rowNext)
		f.Op("ADD", scaleStride, rowScale)
	})
	neonMarkSpecial(f, args, r.code, decoding.numbers)
	f.Return()
}
