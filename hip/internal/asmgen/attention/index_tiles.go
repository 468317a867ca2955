package attention

import "github.com/drafthead/drafthead/hip/internal/asmgen/asm"

// indexTilesFile holds what rates keys for 16 lanes in tile registers.
func indexTilesFile() *asm.File {
	f := file("index_tiles", "The best scores of keys for 16 lanes, in tile registers.")
	f.Table("tileConfig", asm.TileConfig())
	bestScoresTiles(f)
	return f
}

// bestScoresTiles takes 64 keys at a time, in four groups of a tile. For 32 values of
// each the three parts of the queries are loaded once; each group's keys, too, are
// loaded once for all three.
func bestScoresTiles(file *asm.File) {
	f := file.Func(asm.AMX, "bestScoresTiles(a *tileScoresArgs)", `sets, for 16 lanes h,

	Best[h] = max over j < Keys of Σ BF16[j][d]·query h[d],   NaN if one is

where query h[d] is the sum of three bfloat16 numbers, of which Queries holds, for each 32 values, three tiles [d/2][lane][d mod 2]: the smallest numbers first. Products are exact; they are summed in float32, for each 32 values the smallest numbers' first, in the order of TDPBF16PS, which takes numbers below 2^-126 as 0. An infinity may make a NaN. Dim is a multiple of 32, Keys of 64.`)
	args, by, left := f.Take(asm.SI), asm.AX, f.Take(asm.AX) // left: keys
	keyBytes, rowBytes := f.Take(asm.CX), f.Take(asm.DX)
	groups := []asm.GP{f.Take(asm.R8), f.Take(asm.R9), f.Take(asm.R10), f.Take(asm.R11)}
	ahead, queries, scores, count := f.Take(asm.R13), f.Take(asm.BX), f.Take(asm.DI), f.Take(asm.R12)
	bests := f.Vectors(4)
	row := f.Vector()
	nan, unordinary := asm.K1, asm.K2
	const tileBytes = 1024
	const keysTile = asm.Tile(7)
	parts := []asm.Tile{4, 5, 6} // of the queries; the groups' sums are 0 … 3

	f.Op("MOVQ", f.Arg("a"), args)
	f.OpenTiles(asm.Table("tileConfig"))
	f.BroadcastFloat(minusInfinity, by, bests[0])
	for _, b := range bests[1:] {
		f.Op("VMOVAPS", bests[0], b)
	}
	f.Op("KXORW", nan, nan, nan)
	f.Op("MOVQ", f.Field(args, "Dim"), keyBytes)
	f.Op("SHLQ", 1, keyBytes)
	f.Op("MOVQ", f.Field(args, "BF16"), groups[0])
	f.Op("MOVQ", f.Field(args, "Keys"), left)
	f.Op("MOVQ", 64, rowBytes)

	keys, last, begin := f.Mark(f.Label("keys")), f.Label("last"), f.Label("begin")
	f.Op("MOVQ", keyBytes, groups[1])
	f.Op("SHLQ", 4, groups[1])
	f.Op("LEAQ", groups[0].At(0).Index(groups[1], 2), groups[2])
	f.Op("LEAQ", groups[2].At(0).Index(groups[1], 1), groups[3])
	f.Op("ADDQ", groups[0], groups[1])
	f.Op("CMPQ", left, 64)
	f.Op("JLE", last)
	f.Op("LEAQ", groups[0].At(0).Index(keyBytes, 8), ahead) // the 64 keys after these are read next
	for range 7 {
		f.Op("LEAQ", ahead.At(0).Index(keyBytes, 8), ahead)
	}
	f.Op("JMP", begin)
	f.Mark(last)
	f.Op("MOVQ", f.Field(args, "Next"), ahead)
	f.Mark(begin)
	f.Op("MOVQ", f.Field(args, "Queries"), queries)
	f.Op("MOVQ", keyBytes, count)
	for i := range groups {
		f.ClearTile(asm.Tile(i))
	}
	values := f.Mark(f.Label("values")) // 32 of each key
	for i, p := range parts {
		f.LoadTileAt(queries, tileBytes*i, rowBytes, p)
	}
	for i, g := range groups {
		f.LoadTile(g, keyBytes, keysTile)
		for k, p := range parts {
			if k > 0 {
				prefetchRows(f, ahead)
			}
			f.MultiplyTiles(p, keysTile, asm.Tile(i))
		}
	}
	f.Op("ADDQ", tileBytes*len(parts), queries)
	for _, g := range groups {
		f.Op("ADDQ", 64, g)
	}
	f.Op("SUBQ", 64, count)
	f.Op("JNZ", values)

	f.Op("MOVQ", f.Field(args, "Scratch"), scores)
	for i := range groups {
		if i > 0 {
			f.Op("ADDQ", tileBytes, scores)
		}
		f.StoreTile(asm.Tile(i), scores, rowBytes)
	}
	f.Op("SUBQ", 3*tileBytes, scores)
	f.Op("MOVQ", 16, count)
	f.Loop("join", count, func() {
		for i, best := range bests {
			f.Op("VMOVUPS", scores.At(64*i), row)
			f.Op("VCMPPS", unordered, row, row, unordinary)
			f.Op("KORW", unordinary, nan, nan)
			f.Op("VMAXPS", best, row, best)
		}
		f.Op("ADDQ", 256, scores)
	})
	// The next keys begin 15 keys after the end of the last group's first.
	f.Op("MOVQ", groups[3], groups[0])
	f.Op("MOVQ", keyBytes, count)
	f.Op("SHLQ", 4, count)
	f.Op("SUBQ", keyBytes, count)
	f.Op("ADDQ", count, groups[0])
	f.Op("SUBQ", 64, left)
	f.Op("JG", keys)

	f.Op("VPMOVM2D", nan, row) // all ones stand for NaN
	f.Op("VMAXPS", bests[1], bests[0], bests[0])
	f.Op("VMAXPS", bests[3], bests[2], bests[2])
	f.Op("VMAXPS", bests[2], bests[0], bests[0])
	f.Op("VORPS", bests[0], row, row)
	f.Op("VMOVUPS", row, f.Field(args, "Best"))
	f.CloseTiles()
	f.Return()
}

// prefetchRows asks for 512 bytes and moves on.
func prefetchRows(f *asm.Func, ahead asm.GP) {
	for offset := 0; offset < 512; offset += 64 {
		f.Op("PREFETCHT1", ahead.At(offset))
	}
	f.Op("ADDQ", 512, ahead)
}
