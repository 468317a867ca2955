package main

import "fmt"

// panelRows is the rows of weights that a product takes at a time.
const panelRows = 4

// products writes, for one to as many rows of x as registers allow, the function
//
//	sums[j][i] += panel[j][·] · x[i][·]      j = 0 … 3, by lanes
//
// The registers are AX, BX: rows 0 and 3 of the panel; SI, DX: rows 0 and 3 of x;
// R8, R9: strides; R10: chunks left.
func (g *generator) products(v vectors) {
	most, x, w := 4, 16, 20
	if v.bytes == 32 { // 16 registers
		most, x, w = 3, 12, 15
	}
	for n := 1; n <= most; n++ {
		doc := fmt.Sprintf("adds panel[j][c]·x[i][c] to lane c mod %d of sums[j][i], in float32 and in the\n"+
			"// order of the columns, for j = 0 … 3 and i < %d.", v.lanes(), n)
		g.function(fmt.Sprintf("product4x%d%s", n, v.name), "productPanelArgs", 0, doc)
		g.op("MOVQ 0(DI), AX")
		g.op("MOVQ 8(DI), SI")
		g.op("MOVQ 16(DI), CX")
		g.op("MOVQ 24(DI), R10")
		g.op("MOVQ 32(DI), R8")
		g.op("MOVQ 40(DI), R9")
		g.op("LEAQ (AX)(R8*2), BX")
		g.op("ADDQ R8, BX")
		g.op("LEAQ (SI)(R9*2), DX")
		g.op("ADDQ R9, DX")
		panel := []string{"(AX)", "(AX)(R8*1)", "(AX)(R8*2)", "(BX)"}
		rows := []string{"(SI)", "(SI)(R9*1)", "(SI)(R9*2)", "(DX)"}
		for i := range panelRows * n {
			g.op("VMOVUPS %d(CX), %s", i*v.bytes, v.r(i))
		}
		g.loop("R10", func() {
			for k := range chunk / v.lanes() {
				for i := range n {
					g.op("VMOVUPS %d%s, %s", k*v.bytes, rows[i], v.r(x+i))
				}
				for j := range panelRows {
					weight := v.r(w)
					if v.bytes == 64 {
						weight = v.r(w + j)
					}
					g.op("VMOVUPS %d%s, %s", k*v.bytes, panel[j], weight)
					for i := range n {
						g.op("VFMADD231PS %s, %s, %s", v.r(x+i), weight, v.r(j*n+i))
					}
				}
			}
			for _, r := range []string{"AX", "BX", "SI", "DX"} {
				g.op("ADDQ $%d, %s", 4*chunk, r)
			}
		})
		for i := range panelRows * n {
			g.op("VMOVUPS %s, %d(CX)", v.r(i), i*v.bytes)
		}
		g.ret()
	}
}

// sums writes the function that adds up the lanes of vectors.
func (g *generator) sums(v vectors) {
	g.function("sumLanes"+v.name, "sumLanesArgs", 0, "computes y[i] = Σ lanes of sums[i] for n vectors, halving a vector\n// each time.")
	g.op("MOVQ 0(DI), SI")
	g.op("MOVQ 8(DI), DX")
	g.op("MOVQ 16(DI), R8")
	g.loop("R8", func() {
		g.op("VMOVUPS (SI), %s", v.r(0))
		g.sumOf(v, 0)
		g.op("VMOVSS X0, (DX)")
		g.op("ADDQ $%d, SI", v.bytes)
		g.op("ADDQ $4, DX")
	})
	g.ret()
}
