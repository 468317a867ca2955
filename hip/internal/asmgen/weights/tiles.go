package weights

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// tilesFile holds what makes x ready for tile registers, and results of sums.
func tilesFile() *asm.File {
	f := file("tiles", "Rows of x as tiles of bfloat16, and tiles of sums as rows.")
	packTiles(f)
	transposeTile(f)
	splitBF16(f)
	return f
}

// packTiles transposes pairs of bfloat16: 16 rows of 32 columns become a tile of 16
// rows, one for each pair of columns, in which each row has a place.
func packTiles(file *asm.File) {
	f := file.Func(asm.AMX, "packTiles(a *packTilesArgs)",
		"makes a tile of columns of each 32 columns of 16 rows of bfloat16:\n\n"+
			"\ttile[s][p][i] = rows[i][32s+2p], rows[i][32s+2p+1]")
	args, tiles, rows, row := f.Take(asm.DI), f.Take(asm.DX), f.Take(asm.AX), f.Take(asm.SI)
	steps, stride, apart := f.Take(asm.R10), f.Take(asm.R8), f.Take(asm.R9)
	v, temporaries := f.Vectors(16), f.Vectors(16)
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "tiles"), tiles)
	f.Op("MOVQ", f.Field(args, "rows"), rows)
	f.Op("MOVQ", f.Field(args, "steps"), steps)
	f.Op("MOVQ", f.Field(args, "stride"), stride)
	f.Op("MOVQ", f.Field(args, "apart"), apart)
	f.Loop("step", steps, func() {
		f.Op("MOVQ", rows, row)
		for i, v := range v {
			f.Op("VMOVDQU64", row.At(0), v)
			if i < 15 {
				f.Op("ADDQ", stride, row)
			}
		}
		transpose(f, v, temporaries, func(_ int, rows [4]asm.Vec, each func(i int) int) {
			for i, v := range rows {
				f.Op("VMOVDQU64", v, tiles.At(64*each(i)))
			}
		})
		f.Op("ADDQ", 64, rows)
		f.Op("ADDQ", apart, tiles)
	})
	f.Return()
}

// transposeTile stores a tile of sums as rows of results.
func transposeTile(file *asm.File) {
	f := file.Func(asm.AMX, "transposeTile(a *transposeTileArgs)", "sets y[i][j] = tile[j][i] for 16 rows of 16 float32.")
	args, tile, stride := f.Take(asm.DI), f.Take(asm.SI), f.Take(asm.R8)
	y := [4]asm.GP{f.Take(asm.AX), f.Take(asm.BX), f.Take(asm.CX), f.Take(asm.DX)} // the rows 0, 4, 8 and 12
	v, temporaries := f.Vectors(16), f.Vectors(16)
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", f.Field(args, "tile"), tile)
	f.Op("MOVQ", f.Field(args, "y"), y[0])
	f.Op("MOVQ", f.Field(args, "stride"), stride)
	for i := range 3 {
		f.Op("LEAQ", y[i].At(0).Index(stride, 4), y[i+1])
	}
	for i, v := range v {
		f.Op("VMOVDQU64", tile.At(64*i), v)
	}
	transpose(f, v, temporaries, func(r int, rows [4]asm.Vec, _ func(i int) int) {
		for i, v := range rows {
			f.Op("VMOVDQU64", v, y[i].At(0))
			if r < 3 {
				f.Op("ADDQ", stride, y[i])
			}
		}
	})
	f.Return()
}

// transpose transposes 16 rows of 16 double words. It calls use four times, with r = 0 … 3:
// rows[i] is row 4i+r of the result, which each returns.
func transpose(f *asm.Func, a, b []asm.Vec, use func(r int, rows [4]asm.Vec, each func(i int) int)) {
	// Double words, then quadruple words, of two rows side by side, within 16 bytes.
	for i := 0; i < 16; i += 2 {
		f.Op("VPUNPCKLDQ", a[i+1], a[i], b[i])
		f.Op("VPUNPCKHDQ", a[i+1], a[i], b[i+1])
	}
	for i := 0; i < 16; i += 4 {
		for k := range 2 {
			f.Op("VPUNPCKLQDQ", b[i+2+k], b[i+k], a[i+2*k])
			f.Op("VPUNPCKHQDQ", b[i+2+k], b[i+k], a[i+2*k+1])
		}
	}
	// Vector a[4q+r] has, in its 16 bytes s, row 4s+r of the rows 4q … 4q+3: what
	// is left is to transpose 16 bytes of the four vectors r, 4+r, 8+r, 12+r.
	const even, odd = uint32(0x88), uint32(0xdd) // 16 bytes 0 and 2 of both, 1 and 3
	for r := range 4 {
		f.Op("VSHUFI32X4", even, a[4+r], a[r], b[0])
		f.Op("VSHUFI32X4", odd, a[4+r], a[r], b[1])
		f.Op("VSHUFI32X4", even, a[12+r], a[8+r], b[2])
		f.Op("VSHUFI32X4", odd, a[12+r], a[8+r], b[3])
		f.Op("VSHUFI32X4", even, b[2], b[0], b[4])
		f.Op("VSHUFI32X4", even, b[3], b[1], b[5])
		f.Op("VSHUFI32X4", odd, b[2], b[0], b[6])
		f.Op("VSHUFI32X4", odd, b[3], b[1], b[7])
		use(r, [4]asm.Vec(b[4:8]), func(i int) int { return 4*i + r })
	}
}

// splitBF16 splits float32. What is cut off is exact, and what is not a number has no
// rest.
func splitBF16(file *asm.File) {
	f := file.Func(asm.AMX, "splitBF16(a *splitBF16Args)",
		"splits float32 into three bfloat16 that add up to it: high has the upper 8 bits of the significand, mid the next, low the rest.")
	args, by := f.Take(asm.DI), f.Take(asm.CX)
	x, chunks := f.Take(asm.SI), f.Take(asm.R10)
	to := []asm.GP{f.Take(asm.AX), f.Take(asm.BX), f.Take(asm.DX)}
	v := f.Vectors(5)
	value, high, rest, mid, low := v[0], v[1], v[2], v[3], v[4]
	exponent := low // until the end
	uppers, infinity, quiet := f.Vector(), f.Vector(), f.Vector()
	nan, finite := asm.K1, asm.K2
	f.Op("MOVQ", f.Arg("a"), args)
	f.Broadcast(0xffff0000, by, uppers)
	f.Broadcast(0x7f800000, by, infinity)
	f.Broadcast(0x00400000, by, quiet)
	f.Op("MOVQ", f.Field(args, "x"), x)
	for i, part := range []string{"high", "mid", "low"} {
		f.Op("MOVQ", f.Field(args, part), to[i])
	}
	f.Op("MOVQ", f.Field(args, "chunks"), chunks)
	const unordered, notEqual = 3, 4
	f.Loop("chunk", chunks, func() {
		for i := range chunk / 16 {
			f.Op("VMOVUPS", x.At(64*i), value)
			f.Op("VCMPPS", unordered, value, value, nan)
			f.Op("VPANDD", infinity, value, exponent)
			f.Op("VPCMPD", notEqual, infinity, exponent, finite)
			f.Op("VPANDD", uppers, value, high)
			f.Op("VSUBPS.Z", high, value, finite, rest)
			f.Op("VPORD", quiet, high, nan, high)
			f.Op("VPANDD", uppers, rest, mid)
			f.Op("VSUBPS", mid, rest, low)
			for k, part := range []asm.Vec{high, mid, low} {
				f.Op("VPSRLD", 16, part, part)
				f.Op("VPMOVDW", part, to[k].At(32*i))
			}
		}
		f.Op("ADDQ", 4*chunk, x)
		for _, r := range to {
			f.Op("ADDQ", 2*chunk, r)
		}
	})
	f.Return()
}
