package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// halves widen e4m3 by way of half precision. With sign and magnitude of a code moved
// into place,
//
//	s eeee mmm   →   s 0eeee mmm0000000
//
// it is a half of value · 2^−8, subnormals too, but for the codes of NaN, which
// become 480 · 2^−8. The largest code without sign of all that was seen says
// whether there was one.
type halves struct {
	largest, exponent, sign asm.Vec
}

// setConstants sets all but largest, which begins with zero.
func (h halves) setConstants(f *asm.Func, by asm.GP) {
	f.Broadcast(0xbfffbfff, by, h.exponent)
	f.Broadcast(0x80808080, by, h.sign)
}

// widen widens 2·lanes codes to two vectors. The sign fills the upper byte, is moved
// to the two upper bits and cleared in the second.
func (h halves) widen(f *asm.Func, at asm.Mem, lower, upper asm.Vec) {
	extract, and := "VEXTRACTI128", "VPAND"
	if f.Level.Bytes == 64 {
		extract, and = "VEXTRACTI64X4", "VPANDD"
	}
	f.Op("VPMOVSXBW", at, lower)
	f.Op("VPSLLW", 7, lower, lower)
	f.Op(and, h.exponent, lower, lower)
	f.Op(extract, 1, lower, upper.Half())
	f.Op("VCVTPH2PS", lower.Half(), lower)
	f.Op("VCVTPH2PS", upper.Half(), upper)
}

// note looks at a chunk of codes.
func (h halves) note(f *asm.Func, at func(offset int) asm.Mem, temporary asm.Vec) {
	or := "VPOR"
	if f.Level.Bytes == 64 {
		or = "VPORD"
	}
	for offset := 0; offset < chunk; offset += f.Level.Bytes {
		f.Op(or, at(offset), h.sign, temporary)
		f.Op("VPMAXUB", temporary, h.largest, h.largest)
	}
}

// numbers jumps if no code of NaN was noted.
func (h halves) numbers(f *asm.Func, temporary asm.Vec, label string) {
	if f.Level.Bytes == 64 {
		f.Op("VPTERNLOGD", uint32(0xff), temporary, temporary, temporary)
		f.Op("VPCMPEQB", temporary, h.largest, asm.K1)
		f.Op("KORTESTQ", asm.K1, asm.K1)
	} else {
		f.Op("VPCMPEQB", temporary, temporary, temporary)
		f.Op("VPCMPEQB", temporary, h.largest, temporary)
		f.Op("VPTEST", temporary, temporary)
	}
	f.Op("JZ", label)
}

// e4m3ByHalves decodes MXFP8, short of a factor of 2^8, on processors without byte
// permutations.
func e4m3ByHalves(level asm.Level) decoder {
	return decoder{format: "MXFP8", stored: 1, scale: 1, temporaries: 4, short8: true, findsNaN: true,
		begin: func(f *asm.Func, r lent) decoding {
			h := halves{exponent: f.Vector(), sign: f.Vector(), largest: f.Vector()}
			lower, upper, factor := r.temporaries[0], r.temporaries[1], r.temporaries[2]
			f.Op("LEAQ", asm.Table("e8m0"), r.scales)
			h.setConstants(f, r.code)
			f.Clear(h.largest)
			return decoding{
				chunk: func(at, scale func(int) asm.Mem, use func(int, asm.Vec)) {
					h.note(f, at, lower)
					for block := range chunk / 32 {
						f.Op("MOVBLZX", scale(block), r.code)
						f.Op("VBROADCASTSS", r.scales.At(0).Index(r.code, 4), factor)
						for i := 0; i < 32; i += 2 * level.Lanes() {
							h.widen(f, at(32*block+i), lower, upper)
							for k, v := range []asm.Vec{lower, upper} {
								f.Op("VMULPS", factor, v, v)
								use((32*block+i)/level.Lanes()+k, v)
							}
						}
					}
				},
				numbers: func(label string) { h.numbers(f, upper, label) },
			}
		}}
}
