package main

import "fmt"

// halves names the registers with which e4m3 is widened by way of half
// precision. With sign and magnitude of a code moved into place,
//
//	s eeee mmm   →   s 0eeee mmm0000000
//
// it is a half of value · 2^−8, subnormals too, but for the codes of NaN, which
// become 480 · 2^−8. The largest code without sign of all that was seen tells
// whether there is one.
type halves struct {
	largest, exponent, sign int
}

func (g *generator) halfConstants(v vectors, h halves) {
	g.broadcast(v, 0xbfffbfff, h.exponent)
	g.broadcast(v, 0x80808080, h.sign)
}

// broadcast sets all double words of a register.
func (g *generator) broadcast(v vectors, bits uint32, register int) {
	g.op("MOVL $0x%08x, CX", bits)
	g.op("VMOVD CX, X%d", register)
	g.op("VPBROADCASTD X%d, %s", register, v.r(register))
}

// widenHalf widens 2·lanes codes to the registers to and to+1. The sign fills the
// upper byte, is moved to the two upper bits and cleared in the second.
func (g *generator) widenHalf(v vectors, h halves, at string, to int) {
	upper, extract := fmt.Sprintf("X%d", to+1), "VEXTRACTI128"
	and := "VPAND"
	if v.bytes == 64 {
		upper, extract, and = fmt.Sprintf("Y%d", to+1), "VEXTRACTI64X4", "VPANDD"
	}
	g.op("VPMOVSXBW %s, %s", at, v.r(to))
	g.op("VPSLLW $7, %s, %s", v.r(to), v.r(to))
	g.op("%s %s, %s, %s", and, v.r(h.exponent), v.r(to), v.r(to))
	g.op("%s $1, %s, %s", extract, v.r(to), upper)
	g.op("VCVTPH2PS %s, %s", v.half(to), v.r(to))
	g.op("VCVTPH2PS %s, %s", upper, v.r(to+1))
}

// noteNaN looks at the chunk at R11, or elsewhere. Register temporary is
// overwritten.
func (g *generator) noteNaN(v vectors, h halves, at func(off int) string, temporary int) {
	for off := 0; off < chunk; off += v.bytes {
		if v.bytes == 64 {
			g.op("VPORD %s, Z%d, Z%d", at(off), h.sign, temporary)
		} else {
			g.op("VPOR %s, Y%d, Y%d", at(off), h.sign, temporary)
		}
		g.op("VPMAXUB %s, %s, %s", v.r(temporary), v.r(h.largest), v.r(h.largest))
	}
}

// atR11 is operands at R11.
func atR11(off int) string { return fmt.Sprintf("%d(R11)", off) }

// halfDecoder decodes MXFP8, short of a factor of 2^8.
func (g *generator) halfDecoder(v vectors) decoder {
	of := func(constants int) halves {
		return halves{exponent: constants, sign: constants + 1, largest: constants + 2}
	}
	return decoder{
		format: "MXFP8", stored: 1, scale: 1, short8: true,
		setup: func(constants int) {
			g.op("LEAQ e8m0<>(SB), R9")
			g.halfConstants(v, of(constants))
			g.clear(v, of(constants).largest)
		},
		chunk: func(constants, first int, at, scale func(int) string, use func(int, int)) {
			h := of(constants)
			g.noteNaN(v, h, at, first)
			for block := range chunk / 32 {
				g.op("MOVBLZX %s, CX", scale(block))
				g.op("VBROADCASTSS (R9)(CX*4), %s", v.r(first+2))
				for i := 0; i < 32; i += 2 * v.lanes() {
					g.widenHalf(v, h, at(32*block+i), first)
					for k := range 2 {
						g.op("VMULPS %s, %s, %s", v.r(first+2), v.r(first+k), v.r(first+k))
						use((32*block+i)/v.lanes()+k, first+k)
					}
				}
			}
		},
		finish: func(constants int, label string) { g.skipUnlessNaN(v, of(constants), label) },
	}
}

// integerDecoder decodes INT8.
func (g *generator) integerDecoder(v vectors) decoder {
	return decoder{
		format: "INT8", stored: 1, scale: 2,
		chunk: func(_, first int, at, scale func(int) string, use func(int, int)) {
			for i := range chunk / v.lanes() {
				off, r := i*v.lanes(), first+i%2
				if off%32 == 0 {
					g.bf16Scale(v, scale(2*off/32), first+2)
				}
				g.op("VPMOVSXBD %s, %s", at(off), v.r(r))
				g.op("VCVTDQ2PS %s, %s", v.r(r), v.r(r))
				g.op("VMULPS %s, %s, %s", v.r(first+2), v.r(r), v.r(r))
				use(i, r)
			}
		},
	}
}

// tableDecoder decodes MXFP8 by look-ups.
func (g *generator) tableDecoder() decoder {
	return decoder{
		format: "MXFP8", stored: 1, scale: 1,
		setup: func(int) {
			g.op("LEAQ e8m0<>(SB), R9")
			g.lookupConstants("floatOrder", "e4m3High")
		},
		chunk: func(_, first int, at, scale func(int) string, use func(int, int)) {
			g.lookup(at(0), first)
			g.widenWords(first+2, first+4)
			for i := range 4 {
				if i%2 == 0 {
					g.op("MOVBLZX %s, CX", scale(i/2))
				}
				g.op("VMULPS.BCST (R9)(CX*4), Z%d, Z%d", first+4+i, first+4+i)
				use(i, first+4+i)
			}
		},
	}
}

// skipUnlessNaN jumps if no code of NaN was noted. Register 1 is overwritten.
func (g *generator) skipUnlessNaN(v vectors, h halves, label string) {
	if v.bytes == 64 {
		g.op("VPTERNLOGD $0xff, Z1, Z1, Z1")
		g.op("VPCMPEQB Z1, Z%d, K1", h.largest)
		g.op("KORTESTQ K1, K1")
	} else {
		g.op("VPCMPEQB Y1, Y1, Y1")
		g.op("VPCMPEQB Y1, Y%d, Y1", h.largest)
		g.op("VPTEST Y1, Y1")
	}
	g.op("JZ %s", label)
}

// The registers of look-ups.
const (
	order  = 31 // of the bytes
	high0  = 30 // upper bytes of the codes 0 … 63
	high1  = 29
	low0   = 28
	low1   = 27
	signs  = 26
	uppers = 25 // 0xffff0000
)

func (g *generator) lookupConstants(byteOrder, high string) {
	g.op("VMOVDQU64 %s<>(SB), Z%d", byteOrder, order)
	g.op("VMOVDQU64 %s<>+0(SB), Z%d", high, high0)
	g.op("VMOVDQU64 %s<>+64(SB), Z%d", high, high1)
	g.op("VMOVDQU64 e4m3Low<>+0(SB), Z%d", low0)
	g.op("VMOVDQU64 e4m3Low<>+64(SB), Z%d", low1)
	g.broadcast(avx512, 0x80808080, signs)
	g.broadcast(avx512, 0xffff0000, uppers)
}

// lookup makes bfloat16 of 64 codes, in the registers first+2 and first+3, in the
// order of lookupConstants. Registers first and first+1 are overwritten. The upper
// bytes without sign, where NaN may be marked, are noted in the registers seen.
func (g *generator) lookup(at string, first int, seen ...int) {
	codes, high, low, upper := first, first+1, first+2, first+3
	g.op("VPERMB %s, Z%d, Z%d", at, order, codes)
	g.op("VMOVDQA64 Z%d, Z%d", codes, high)
	g.op("VMOVDQA64 Z%d, Z%d", codes, low)
	g.op("VPERMI2B Z%d, Z%d, Z%d", high1, high0, high)
	g.op("VPERMI2B Z%d, Z%d, Z%d", low1, low0, low)
	for _, r := range seen {
		g.op("VPORD Z%d, Z%d, Z%d", high, r, r)
	}
	g.op("VPTERNLOGD $0xf8, Z%d, Z%d, Z%d", signs, codes, high) // high | codes & signs
	g.op("VPUNPCKHBW Z%d, Z%d, Z%d", high, low, upper)
	g.op("VPUNPCKLBW Z%d, Z%d, Z%d", high, low, low)
}

// widenWords makes float32 of the words in two registers: columns 0 … 15 in register
// to, and on to to+3.
func (g *generator) widenWords(words, to int) {
	for i := range 2 {
		g.op("VPSLLD $16, Z%d, Z%d", words+i, to+2*i)
		g.op("VPANDD Z%d, Z%d, Z%d", uppers, words+i, to+2*i+1)
	}
}
