package weights

import (
	"fmt"
	"strings"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// decodeFile holds what decodes panels, some columns of some rows, to float32.
func decodeFile() *asm.File {
	f := file("decode", "Panels of stored rows as float32.")
	for _, level := range levels {
		for _, d := range decoders(level) {
			decode(f, level, d)
		}
	}
	return f
}

func decode(file *asm.File, level asm.Level, d decoder) {
	doc := "decodes a panel of " + d.format + ", each value rounded once"
	if d.order != "" {
		doc += ", columns" + strings.TrimSuffix(strings.TrimPrefix(d.order, ","), ",")
	}
	if d.findsNaN {
		doc += ", and sets special if one of them is NaN, which it does not decode"
	}
	f := file.Func(level, fmt.Sprintf("decode%s%s(a *decodeArgs)", d.format, level.Name), doc+".")
	args := f.Take(asm.DI)
	rowW, rowScale, rowPanel, rowNext := f.Take(asm.AX), f.Take(asm.BX), f.Take(asm.SI), f.Take(asm.R13)
	w, scale, panel, next := f.Take(asm.R11), f.Take(asm.R12), f.Take(asm.R10), f.Take(asm.R14)
	chunks, scales, code := f.Take(asm.DX), f.Take(asm.R9), f.Take(asm.CX)
	field := func(name string) asm.Mem { return f.Field(args, name) }

	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", field("panel"), rowPanel)
	f.Op("MOVQ", field("w"), rowW)
	f.Op("MOVQ", field("scale"), rowScale)
	f.Op("MOVQ", field("next"), rowNext)
	decoding := d.begin(f, lent{f.Vectors(8), scales, code})
	var two8 asm.Vec
	if d.short8 {
		two8 = f.Vector()
		f.Op("VBROADCASTSS", asm.Table("two8"), two8)
	}
	f.Loop("row", field("rows"), func() {
		f.Op("MOVQ", rowW, w)
		f.Op("MOVQ", rowScale, scale)
		f.Op("MOVQ", rowPanel, panel)
		f.Op("MOVQ", rowNext, next)
		f.Op("MOVQ", field("chunks"), chunks)
		f.Loop("chunk", chunks, func() {
			for offset := 0; offset < d.bytes(); offset += 64 {
				f.Op("PREFETCHT0", next.At(offset))
			}
			decoding.chunk(w.At, scale.At, func(i int, v asm.Vec) {
				if d.short8 {
					f.Op("VMULPS", two8, v, v)
				}
				f.Op("VMOVUPS", v, panel.At(i*level.Bytes))
			})
			f.Op("ADDQ", d.bytes(), w)
			f.Op("ADDQ", d.bytes(), next)
			if d.scale > 0 {
				f.Op("ADDQ", d.scale*chunk/32, scale)
			}
			f.Op("ADDQ", 4*chunk, panel)
		})
		f.Op("ADDQ", field("panelStride"), rowPanel)
		f.Op("ADDQ", field("rowStride"), rowW)
		f.Op("ADDQ", field("rowStride"), rowNext)
		f.Op("ADDQ", field("scaleStride"), rowScale)
	})
	markSpecial(f, args, decoding.numbers)
	f.Return()
}
