package main

import "fmt"

const (
	// streamMost is the tiles of columns that streamTiles takes at most: their sums
	// with two tiles of weights leave two registers for what is multiplied.
	streamMost = 3
	// streamColumns is the columns of weights that are decoded at a time: few enough
	// that two panels of them stay in a core's first cache, beside all else.
	streamColumns = 128
	// streamStride is the bytes from row to row of a panel: odd in units of a cache
	// line, so that rows do not displace each other.
	streamStride = 2*streamColumns + 64
)

// streamTiles writes functions that decode 32 rows of weights, some columns at a time,
// and meanwhile multiply the columns before. For every step of 32 columns there are
// eight rows of two chunks to decode,
//
//	step      ├ upper tile · columns ┼ lower tile · columns ┼ 16 chunks ┤
//
// so that vectors and tiles are busy at the same time, and the memory too: the next
// columns of a row are fetched when some are decoded. Fetching them in the order in
// which they are stored, all that the next call decodes, was a third slower: the
// processor then does not follow the rows.
//
// The registers are R11, R12, R10: weights, scales and panel of the row; R13: rows left;
// R14: from a row's columns to those that are fetched; SI, stride R9: the panel that
// is multiplied; DX: the columns.
// Sums are in tiles 0 … 2 and 3 … 5.
func (g *generator) streamTiles(d tileDecoder, tiles int) {
	doc := fmt.Sprintf("sets sums[j][i] = Σ w[j][c]·column[i][c] for up to 32 rows of %s and %d\\n"+
		"// tiles of columns, decoded as by decodeTiles%s and multiplied as by multiplyTiles, and\\n"+
		"// fetches as many bytes from ahead on.", d.format, tiles, d.format)
	g.function(fmt.Sprintf("streamTiles%d%s", tiles, d.format), "streamTilesArgs", 0, doc)
	g.save(112, 0, 8)
	g.op("LEAQ tileConfig<>(SB), AX")
	g.bytes("LDTILECFG (AX)", 0xc4, 0xe2, 0x78|noPrefix, 0x49, 0x00)
	for h := range 2 {
		for i := range tiles {
			g.tileZero(3*h + i)
		}
	}
	d.setup()
	g.op("MOVQ 32(DI), DX")
	g.op("MOVQ $%d, R9", streamStride)
	g.op("XORQ SI, SI") // nothing to multiply yet
	first, last, decoded, fetch := g.labels("first")[0], g.labels("last")[0], g.labels("decoded")[0], g.labels("fetch")[0]
	g.mark(first)
	g.op("MOVQ 0(DI), R11")
	g.op("MOVQ 8(DI), R12")
	g.op("MOVQ 16(DI), R10")
	g.op("MOVQ 48(DI), R13")
	g.op("CMPQ 56(DI), $0") // blocks to decode
	g.op("JNE %s", decoded)
	g.op("XORQ R13, R13")
	g.mark(decoded)
	g.op("MOVQ $%d, R14", d.stored*streamColumns)
	g.op("CMPQ 56(DI), $1")
	g.op("JNE %s", fetch)
	g.op("MOVQ 24(DI), R14")
	g.mark(fetch)
	g.op("MOVQ $%d, 104(DI)", streamColumns/32)
	g.loop("104(DI)", func() {
		decode := g.labels("decode")[0]
		g.op("TESTQ SI, SI")
		g.op("JZ %s", decode)
		g.op("MOVQ $64, AX")
		for h := range 2 {
			if h == 0 {
				g.op("MOVQ SI, BX")
			} else {
				g.op("ADDQ $%d, BX", 16*streamStride)
			}
			g.tileLoad(6, "BX", "R9")
			g.op("MOVQ DX, CX")
			for i := range tiles {
				if i > 0 {
					g.op("ADDQ 88(DI), CX")
				}
				g.tileLoad(7, "CX", "AX")
				g.tileProduct(3*h+i, 6, 7)
			}
		}
		g.op("ADDQ $64, SI")
		g.op("ADDQ $1024, DX")
		g.mark(decode)
		g.decodeRows(d)
	})
	// The panel that was decoded is the next to be multiplied, into the other one.
	g.op("CMPQ 56(DI), $0")
	g.op("JEQ %s", last)
	g.op("DECQ 56(DI)")
	g.op("MOVQ 16(DI), SI")
	g.op("MOVQ 96(DI), AX")
	g.op("MOVQ SI, 96(DI)")
	g.op("MOVQ AX, 16(DI)")
	g.op("ADDQ $%d, 0(DI)", d.stored*streamColumns)
	g.op("ADDQ $%d, 8(DI)", streamColumns/32)
	g.op("JMP %s", first)
	g.mark(last)
	g.op("MOVQ 40(DI), BX")
	g.op("MOVQ $%d, AX", 64*tiles)
	for h := range 2 {
		for i := range tiles {
			g.tileStore(3*h+i, "BX", "AX")
			g.op("ADDQ $64, BX")
		}
		g.op("ADDQ $%d, BX", 15*64*tiles)
	}
	g.bytes("TILERELEASE", 0xc4, 0xe2, 0x78|noPrefix, 0x49, 0xc0)
	g.restore(112, 0, 8)
	l := g.labels("numbers")
	d.finish(l[0])
	g.op("MOVQ $1, 80(DI)")
	g.mark(l[0])
	g.ret()
}

// decodeRows decodes the next rows, as long as there are any.
func (g *generator) decodeRows(d tileDecoder) {
	done := g.labels("done")[0]
	g.op("MOVQ $%d, AX", 32/(streamColumns/32))
	g.loop("AX", func() {
		g.op("TESTQ R13, R13")
		g.op("JZ %s", done)
		for off := 0; off < d.stored*streamColumns; off += 64 {
			g.op("PREFETCHT0 %d(R11)(R14*1)", off)
		}
		for i := range streamColumns / chunk {
			d.chunk(i)
		}
		g.op("ADDQ 64(DI), R11")
		g.op("ADDQ 72(DI), R12")
		g.op("ADDQ R9, R10")
		g.op("DECQ R13")
	})
	g.mark(done)
}
