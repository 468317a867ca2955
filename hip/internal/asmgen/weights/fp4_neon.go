package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// neonFourBits decodes a format of four-bit codes. A look-up in a register gives the upper
// byte of a code's half precision, whose lower byte is zero. NaN is in scales alone,
// whose table has it.
func neonFourBits(format fp4Format) neonDecoder {
	return neonDecoder{format: format.name, packed: true, scale: 1, columns: format.columns, begin: func(f *asm.Func, r neonLent) neonDecoding {
		f.LoadTable("e2m1Halves", r.code)
		f.LoadTable(format.scales, r.scales)
		values, lower := f.Vector(), f.Vector()
		f.Load(r.code.At(0), values)
		f.Op("VMOVI", 15, lower.As("B16"))
		bytes := func(v asm.Vec) asm.Vec { return v.As("B16") }
		return neonDecoding{
			floats: func(at asm.Mem, to []asm.Vec) {
				first, last := to[0], to[len(to)-1]
				load := "FMOVD"
				if len(to) == 2 {
					load = "FMOVS"
				}
				f.Op(load, at, last.As("F"))
				f.Op("VAND", bytes(lower), bytes(last), bytes(first))
				f.Op("VUSHR", 4, bytes(last), bytes(last))
				f.Op("VZIP1", bytes(last), bytes(first), bytes(last))
				f.Op("VTBL", bytes(last), "["+bytes(values).String()+"]", bytes(last))
				f.Word("SHLL", last, to[1])
				if len(to) == 4 {
					f.Word("SHLL2", last, last)
				}
				widenHalves(f, to)
			},
			factor: func(at asm.Mem, to asm.Vec) { r.lookUp(f, at, to) },
		}
	}}
}
