package main

import "fmt"

// Registers of general purpose by their numbers, for encodings.
var numbers = map[string]byte{
	"AX": 0, "CX": 1, "DX": 2, "BX": 3, "SI": 6, "DI": 7,
	"R8": 8, "R9": 9, "R10": 10, "R11": 11, "R12": 12, "R13": 13, "R14": 14, "R15": 15,
}

// prefixes of the instructions on tiles, as VEX encodes them
const (
	noPrefix = 0
	prefixF3 = 2
	prefixF2 = 3
)

// tileMemory encodes TILELOADD (prefix F2) and TILESTORED (F3): 16 rows of 64
// bytes at base, stride bytes apart.
func (g *generator) tileMemory(name string, prefix byte, tile int, base, stride string) {
	b, i := numbers[base], numbers[stride]
	vex1 := byte(0xe2) // R, X, B inverted, and the map 0F38
	if i >= 8 {
		vex1 &^= 0x40
	}
	if b >= 8 {
		vex1 &^= 0x20
	}
	g.bytes(fmt.Sprintf("%s (%s)(%s*1), tile %d", name, base, stride, tile),
		0xc4, vex1, 0x78|prefix, 0x4b, byte(tile)<<3|4, i&7<<3|b&7)
}

func (g *generator) tileLoad(tile int, base, stride string) {
	g.tileMemory("TILELOADD", prefixF2, tile, base, stride)
}

func (g *generator) tileStore(tile int, base, stride string) {
	g.tileMemory("TILESTORED", prefixF3, tile, base, stride)
}

func (g *generator) tileZero(tile int) {
	g.bytes(fmt.Sprintf("TILEZERO tile %d", tile), 0xc4, 0xe2, 0x78|prefixF2, 0x49, 0xc0|byte(tile)<<3)
}

// tileProduct adds a · b to the tile sum.
func (g *generator) tileProduct(sum, a, b int) {
	g.bytes(fmt.Sprintf("TDPBF16PS tile %d, tile %d, tile %d", b, a, sum),
		0xc4, 0xe2, byte(^b&15)<<3|prefixF3, 0x5c, 0xc0|byte(sum)<<3|byte(a))
}

// tiles writes what multiplies with tile registers.
func (g *generator) tiles() {
	config := make([]byte, 64) // palette 1, all eight tiles of 16 rows × 64 bytes
	config[0] = 1
	for i := range 8 {
		config[16+2*i], config[48+i] = 64, 16
	}
	g.table("tileConfig", config)
	g.packTiles()
	g.splits()
}

// packTiles transposes pairs of bfloat16: 16 rows of 32 columns become a tile of 16
// rows, one for each pair of columns, in which each row has a place.
func (g *generator) packTiles() {
	g.function("packTiles", "packTilesArgs", 0,
		"makes a tile of columns of each 32 columns of 16 rows of bfloat16:\n"+
			"// tile[s][p][i] = rows[i][32s+2p], rows[i][32s+2p+1].")
	g.op("MOVQ 0(DI), DX")
	g.op("MOVQ 8(DI), AX")
	g.op("MOVQ 16(DI), R10")
	g.op("MOVQ 24(DI), R8") // stride
	g.loop("R10", func() {
		g.op("MOVQ AX, SI")
		for i := range 16 {
			g.op("VMOVDQU64 (SI), Z%d", i)
			if i < 15 {
				g.op("ADDQ R8, SI")
			}
		}
		// Double words, then quadruple words, of two rows side by side, within 16 bytes.
		for i := 0; i < 16; i += 2 {
			g.op("VPUNPCKLDQ Z%d, Z%d, Z%d", i+1, i, 16+i)
			g.op("VPUNPCKHDQ Z%d, Z%d, Z%d", i+1, i, 17+i)
		}
		for i := 0; i < 16; i += 4 {
			for k := range 2 {
				g.op("VPUNPCKLQDQ Z%d, Z%d, Z%d", 16+i+2+k, 16+i+k, i+2*k)
				g.op("VPUNPCKHQDQ Z%d, Z%d, Z%d", 16+i+2+k, 16+i+k, i+2*k+1)
			}
		}
		// Register 4q+r has, in its 16 bytes b, row 4b+r of the rows 4q … 4q+3: what
		// is left is to transpose 16 bytes of the four registers r, 4+r, 8+r, 12+r.
		for r := range 4 {
			g.op("VSHUFI32X4 $0x88, Z%d, Z%d, Z16", 4+r, r) // bytes 0, 2 of both
			g.op("VSHUFI32X4 $0xdd, Z%d, Z%d, Z17", 4+r, r) // bytes 1, 3
			g.op("VSHUFI32X4 $0x88, Z%d, Z%d, Z18", 12+r, 8+r)
			g.op("VSHUFI32X4 $0xdd, Z%d, Z%d, Z19", 12+r, 8+r)
			g.op("VSHUFI32X4 $0x88, Z18, Z16, Z20")
			g.op("VSHUFI32X4 $0x88, Z19, Z17, Z21")
			g.op("VSHUFI32X4 $0xdd, Z18, Z16, Z22")
			g.op("VSHUFI32X4 $0xdd, Z19, Z17, Z23")
			for b := range 4 {
				g.op("VMOVDQU64 Z%d, %d(DX)", 20+b, 64*(4*b+r))
			}
		}
		g.op("ADDQ $64, AX")
		g.op("ADDQ $1024, DX")
	})
	g.ret()
}

// splits writes the function that splits float32. What is cut off is exact, and what
// is not a number has no rest.
func (g *generator) splits() {
	g.function("splitBF16", "splitBF16Args", 0,
		"splits float32 into three bfloat16 that add up to it: high has the\n"+
			"// upper 8 bits of the significand, mid the next, low the rest.")
	const uppers, infinity, quiet = 10, 11, 12
	g.broadcast(avx512, 0xffff0000, uppers)
	g.broadcast(avx512, 0x7f800000, infinity)
	g.broadcast(avx512, 0x00400000, quiet)
	g.op("MOVQ 0(DI), SI")
	g.op("MOVQ 8(DI), AX")
	g.op("MOVQ 16(DI), BX")
	g.op("MOVQ 24(DI), DX")
	g.op("MOVQ 32(DI), R10")
	g.loop("R10", func() {
		for i := range chunk / 16 {
			g.op("VMOVUPS %d(SI), Z0", 64*i)
			g.op("VCMPPS $3, Z0, Z0, K1") // NaN
			g.op("VPANDD Z%d, Z0, Z4", infinity)
			g.op("VPCMPD $4, Z%d, Z4, K2", infinity) // finite: not equal
			g.op("VPANDD Z%d, Z0, Z1", uppers)
			g.op("VSUBPS.Z Z1, Z0, K2, Z2")
			g.op("VPORD Z%d, Z1, K1, Z1", quiet)
			g.op("VPANDD Z%d, Z2, Z3", uppers)
			g.op("VSUBPS Z3, Z2, Z4")
			for k, r := range []int{1, 3, 4} {
				g.op("VPSRLD $16, Z%d, Z%d", r, r)
				g.op("VPMOVDW Z%d, %d(%s)", r, 32*i, []string{"AX", "BX", "DX"}[k])
			}
		}
		g.op("ADDQ $%d, SI", 4*chunk)
		for _, r := range []string{"AX", "BX", "DX"} {
			g.op("ADDQ $%d, %s", 2*chunk, r)
		}
	})
	g.ret()
}
