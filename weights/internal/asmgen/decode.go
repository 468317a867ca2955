package main

import "fmt"

// decode writes a function that decodes a panel: some columns of some rows.
//
// The registers are AX, BX, SI, R13: weights, scales, panel and prefetched bytes of
// the row; R11, R12, R10, R14: the same of the chunk; DX: chunks left.
func (g *generator) decode(name, doc string, stored, scale int, setup, body, finish func()) {
	g.function(name, "decodeArgs", 0, doc)
	g.op("MOVQ 0(DI), SI")
	g.op("MOVQ 8(DI), AX")
	g.op("MOVQ 16(DI), BX")
	g.op("MOVQ 24(DI), R13")
	call(setup)
	g.loop("32(DI)", func() {
		g.op("MOVQ AX, R11")
		g.op("MOVQ BX, R12")
		g.op("MOVQ SI, R10")
		g.op("MOVQ R13, R14")
		g.op("MOVQ 40(DI), DX")
		g.loop("DX", func() {
			for off := 0; off < stored*chunk; off += 64 {
				g.op("PREFETCHT0 %d(R14)", off)
			}
			body()
			g.op("ADDQ $%d, R11", stored*chunk)
			g.op("ADDQ $%d, R14", stored*chunk)
			if scale > 0 {
				g.op("ADDQ $%d, R12", scale*chunk/32)
			}
			g.op("ADDQ $%d, R10", 4*chunk)
		})
		g.op("ADDQ 48(DI), SI")
		g.op("ADDQ 56(DI), AX")
		g.op("ADDQ 56(DI), R13")
		g.op("ADDQ 64(DI), BX")
	})
	call(finish)
	g.ret()
}

// decodeFloats writes a function that decodes to float32.
func (g *generator) decodeFloats(v vectors, name string, d decoder) {
	doc := "decodes a panel of " + d.format + ", each value rounded once"
	if d.finish != nil {
		doc += ", and sets\n// special if one of them is NaN, which it does not decode"
	}
	const first, constants, two8 = 0, 8, 15
	g.decode("decode"+d.format+name, doc+".", d.stored, d.scale, func() {
		call2(d.setup, constants)
		if d.short8 {
			g.op("VBROADCASTSS two8<>(SB), %s", v.r(two8))
		}
	}, func() {
		d.chunk(constants, first, atR11, func(off int) string { return fmt.Sprintf("%d(R12)", off) }, func(i, r int) {
			if d.short8 {
				g.op("VMULPS %s, %s, %s", v.r(two8), v.r(r), v.r(r))
			}
			g.op("VMOVUPS %s, %d(R10)", v.r(r), i*v.bytes)
		})
	}, func() {
		if d.finish != nil {
			l := g.labels("numbers")
			d.finish(constants, l[0])
			g.op("MOVQ $1, 72(DI)")
			g.mark(l[0])
		}
	})
}

// tileDecoder makes bfloat16 of a chunk of stored weights, exactly.
type tileDecoder struct {
	format  string
	stored  int // bytes of a value
	scale   int // bytes of a scale of 32 columns; 0: none
	special string
	setup   func()
	chunk   func(i int) // chunk i at R11 and R12 to the panel at R10; CX is its own
	finish  func(label string)
}

// tileDecoders returns those there are. The registers from 20 on, R8 and R15 are
// theirs.
func (g *generator) tileDecoders() []tileDecoder {
	const seen, magnitude, exponent = 20, 21, 22
	const leastScale, mostScale = 10, 246
	return []tileDecoder{{
		format: "BF16", stored: 2, special: "a value is infinite or NaN",
		setup: func() {
			g.clear(avx512, seen)
			g.broadcast(avx512, 0x7f807f80, exponent)
		},
		chunk: func(at int) {
			for i := range 2 {
				g.op("VMOVDQU64 %d(R11), Z%d", 128*at+64*i, i)
				g.op("VPANDD Z%d, Z%d, Z%d", exponent, i, 2+i)
				g.op("VPMAXUW Z%d, Z%d, Z%d", 2+i, seen, seen)
				g.op("VMOVDQU64 Z%d, %d(R10)", i, 128*at+64*i)
			}
		},
		finish: func(label string) {
			g.op("VPCMPEQW Z%d, Z%d, K1", exponent, seen)
			g.op("KORTESTD K1, K1")
			g.op("JZ %s", label)
		},
	}, {
		format: "MXFP8", stored: 1, scale: 1,
		special: "a value is NaN or a scale is outside 2^−117 … 2^119, where a\n// product with it may not be a normal bfloat16",
		setup: func() {
			g.op("LEAQ e8m0Exponent<>(SB), R8")
			g.op("XORQ R15, R15") // scales out of range
			g.lookupConstants("wordOrder", "e4m3HighMarked")
			g.clear(avx512, seen)
			g.broadcast(avx512, 0x7fff7fff, magnitude)
		},
		chunk: func(at int) {
			g.lookup(fmt.Sprintf("%d(R11)", 64*at), 0, seen)
			for block := range chunk / 32 {
				g.op("MOVBLZX %d(R12), CX", 2*at+block)
				g.op("VPTESTMW Z%d, Z%d, K%d", magnitude, 2+block, 1+block)
				g.op("VPBROADCASTD (R8)(CX*4), Z%d", 4+block)
				g.op("VPADDW Z%d, Z%d, K%d, Z%d", 4+block, 2+block, 1+block, 2+block)
				g.op("SUBL $%d, CX", leastScale)
				g.op("CMPL CX, $%d", mostScale-leastScale)
				g.op("SETHI CX")
				g.op("ORL CX, R15")
				g.op("VMOVDQU64 Z%d, %d(R10)", 2+block, 128*at+64*block)
			}
		},
		finish: func(label string) {
			g.op("VPMOVB2M Z%d, K1", seen)
			g.op("KMOVQ K1, CX")
			g.op("ANDQ $1, R15")
			g.op("ORQ R15, CX")
			g.op("JZ %s", label)
		},
	}}
}
