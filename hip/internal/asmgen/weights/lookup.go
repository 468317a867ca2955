package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// lookup makes bfloat16 of e4m3 by two tables of bytes, with permutations of bytes.
type lookup struct {
	order        asm.Vec // of the bytes of 64 codes
	high0, high1 asm.Vec // upper bytes of the codes 0 … 63 and 64 … 127
	low0, low1   asm.Vec
	signs        asm.Vec
	uppers       asm.Vec // 0xffff0000
}

// newLookup takes the vectors at the top and sets them from the tables of a byte order
// and of upper bytes.
func newLookup(f *asm.Func, order, high string, by asm.GP) lookup {
	v := f.Top(7)
	l := lookup{order: v[0], high0: v[1], high1: v[2], low0: v[3], low1: v[4], signs: v[5], uppers: v[6]}
	f.Op("VMOVDQU64", asm.Table(order), l.order)
	f.Op("VMOVDQU64", asm.Table(high), l.high0)
	f.Op("VMOVDQU64", asm.Table(high).Plus(64), l.high1)
	f.Op("VMOVDQU64", asm.Table("e4m3Low"), l.low0)
	f.Op("VMOVDQU64", asm.Table("e4m3Low").Plus(64), l.low1)
	f.Broadcast(0x80808080, by, l.signs)
	f.Broadcast(0xffff0000, by, l.uppers)
	return l
}

// words makes bfloat16 of 64 codes, in two vectors, in the order of the constants.
// codes and high are overwritten. The upper bytes without sign, where NaN may be
// marked, are noted in the vectors seen.
func (l lookup) words(f *asm.Func, at asm.Mem, codes, high, lower, upper asm.Vec, seen ...asm.Vec) {
	f.Op("VPERMB", at, l.order, codes)
	f.Op("VMOVDQA64", codes, high)
	f.Op("VMOVDQA64", codes, lower)
	f.Op("VPERMI2B", l.high1, l.high0, high)
	f.Op("VPERMI2B", l.low1, l.low0, lower)
	for _, s := range seen {
		f.Op("VPORD", high, s, s)
	}
	f.Op("VPTERNLOGD", uint32(0xf8), l.signs, codes, high) // high | codes & signs
	f.Op("VPUNPCKHBW", high, lower, upper)
	f.Op("VPUNPCKLBW", high, lower, lower)
}

// floats makes float32 of the words in two vectors: columns 0 … 15 in the first of
// four, and so on.
func (l lookup) floats(f *asm.Func, words, to []asm.Vec) {
	for i, w := range words {
		f.Op("VPSLLD", 16, w, to[2*i])
		f.Op("VPANDD", l.uppers, w, to[2*i+1])
	}
}

// e4m3ByLookup decodes MXFP8, NaN too.
func e4m3ByLookup() decoder {
	return decoder{format: "MXFP8", stored: 1, scale: 1, temporaries: 8, begin: func(f *asm.Func, r lent) decoding {
		f.Op("LEAQ", asm.Table("e8m0"), r.scales)
		l := newLookup(f, "floatOrder", "e4m3High", r.code)
		t := r.temporaries
		return decoding{chunk: func(at, scale func(int) asm.Mem, use func(int, asm.Vec)) {
			l.words(f, at(0), t[0], t[1], t[2], t[3])
			l.floats(f, t[2:4], t[4:8])
			for i, v := range t[4:8] {
				if i%2 == 0 {
					f.Op("MOVBLZX", scale(i/2), r.code)
				}
				f.Op("VMULPS.BCST", r.scales.At(0).Index(r.code, 4), v, v)
				use(i, v)
			}
		}}
	}}
}
