package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

// What multiplyTiles does with sums: it sets them, it goes on with them, or it adds sums of
// its own to them, which rounds less.
const sumsSet, sumsGoOn, sumsAdd = 0, 1, 2

// tilePanelsFile holds the products of many rows of x in tile registers.
func tilePanelsFile() *asm.File {
	f := file("tile_panels", "Products of decoded panels with many tiles of columns of x.",
		asm.Constant{Name: "sumsSet", Value: sumsSet}, asm.Constant{Name: "sumsGoOn", Value: sumsGoOn}, asm.Constant{Name: "sumsAdd", Value: sumsAdd})
	for _, d := range tileDecoders() {
		decodeTiles(f, d)
	}
	multiplyTiles(f, 1)
	multiplyTiles(f, 2)
	return f
}

// decodeTiles writes a function that decodes a panel of 32 rows.
func decodeTiles(file *asm.File, d tileDecoder) {
	f := file.Func(asm.AMX, fmt.Sprintf("decodeTiles%s(a *decodeTilesArgs)", d.format), fmt.Sprintf(
		"decodes up to 32 rows of %s to a panel of tiles of bfloat16, and sets special if %s:\n\n"+
			"\tpanel[s][j] = w[j][32s … 32s+31]\n\n"+
			"Meanwhile it asks for what is ahead bytes after the columns of each row.", d.format, d.special))
	args := f.Take(asm.DI)
	rowW, rowScale, rowPanel := f.Take(asm.AX), f.Take(asm.BX), f.Take(asm.SI)
	blocks, panel, ahead := f.Take(asm.DX), f.Take(asm.R10), f.Take(asm.R14)
	r := tileLent{w: f.Take(asm.R11), scale: f.Take(asm.R12), exponents: f.Take(asm.R8), outside: f.Take(asm.R15), code: f.Take(asm.CX)}
	field := func(name string) asm.Mem { return f.Field(args, name) }
	f.Op("MOVQ", f.Arg("a"), args)
	f.Op("MOVQ", field("w"), rowW)
	f.Op("MOVQ", field("scale"), rowScale)
	f.Op("MOVQ", field("panel"), rowPanel)
	f.Op("MOVQ", field("ahead"), ahead)
	decoding := d.begin(f, r)
	f.Loop("row", field("rows"), func() {
		f.Op("MOVQ", rowW, r.w)
		f.Op("MOVQ", rowScale, r.scale)
		f.Op("MOVQ", rowPanel, panel)
		f.Op("MOVQ", field("blocks"), blocks)
		f.Loop("block", blocks, func() {
			for offset := 0; offset < d.stored*streamColumns; offset += 64 {
				f.Op("PREFETCHT1", r.w.At(offset).Index(ahead, 1))
			}
			for i := range streamColumns / chunk {
				decoding.chunk(i, [2]asm.Mem{panel.At(2 * i * 2 * 1024), panel.At((2*i + 1) * 2 * 1024)})
			}
			f.Op("ADDQ", d.stored*streamColumns, r.w)
			f.Op("ADDQ", streamColumns/32, r.scale)
			f.Op("ADDQ", streamColumns/32*2*1024, panel)
		})
		f.Op("ADDQ", field("rowStride"), rowW)
		f.Op("ADDQ", field("scaleStride"), rowScale)
		f.Op("ADDQ", 64, rowPanel)
	})
	markSpecial(f, args, decoding.numbers)
	f.Return()
}

// multiplyTiles writes a function that multiplies panels with sets of tiles of columns. Each
// tile that is loaded meets two, where a set has two. The columns of a set stay in the first
// cache, or near it, while all panels meet them; meanwhile those of the next set are fetched,
// a part of a step by each panel.
func multiplyTiles(file *asm.File, wide int) {
	f := file.Func(asm.AMX, fmt.Sprintf("multiplyTiles%d(a *multiplyTilesArgs)", wide), fmt.Sprintf(
		"multiplies panels of 32 rows with sets of %s of columns, a part of these after the other in one sum, "+
			"and does with the sums what to says.", plural(wide, "tile")))
	args := f.Take(asm.DI)
	panel, rows, part, columns := f.Take(asm.R13), f.Take(asm.SI), f.Take(asm.R14), f.Take(asm.DX) // where they begin, and in them
	set, sums, ahead := f.Take(asm.BX), f.Take(asm.R10), f.Take(asm.R12)
	panels, parts, steps, rowOfTile := f.Take(asm.R11), f.Take(asm.AX), f.Take(asm.CX), f.Take(asm.R9)
	partStride, buffer := f.Take(asm.R8), f.Take(asm.R15)
	v := f.Vectors(8)
	field := func(name string) asm.Mem { return f.Field(args, name) }
	const weightsTile, columnsTile = asm.Tile(4), asm.Tile(6) // the first of two
	fetched := 2 * wide                                       // lines of the next set for each step of a panel: an eighth

	f.Op("MOVQ", f.Arg("a"), args)
	f.OpenTiles(asm.Table("tileConfig"))
	f.Op("MOVQ", field("columns"), set)
	f.Op("MOVQ", field("sums"), sums)
	f.Op("MOVQ", field("buffer"), buffer)
	f.Op("MOVQ", field("partStride"), partStride)
	f.Op("MOVQ", 64, rowOfTile)
	f.Loop("set", field("sets"), func() {
		f.Op("MOVQ", field("panel"), panel)
		f.Op("MOVQ", field("setStride"), ahead)
		f.Op("MOVQ", field("panels"), panels)
		f.Loop("panel", panels, func() {
			clear, ready := f.Label("clear"), f.Label("ready")
			f.Op("CMPQ", field("to"), sumsGoOn)
			f.Op("JNE", clear)
			for i := range 2 * wide {
				f.LoadTileAt(sums, 1024*i, rowOfTile, asm.Tile(i))
			}
			f.Op("JMP", ready)
			f.Mark(clear)
			for i := range 2 * wide {
				f.ClearTile(asm.Tile(i))
			}
			f.Mark(ready)
			f.Op("MOVQ", set, part)
			f.Op("MOVQ", field("parts"), parts)
			f.Loop("part", parts, func() {
				f.Op("MOVQ", panel, rows)
				f.Op("MOVQ", part, columns)
				f.Op("MOVQ", field("steps"), steps)
				f.Loop("step", steps, func() {
					f.LoadTile(rows, rowOfTile, weightsTile)
					for i := range asm.Tile(wide) {
						f.LoadTileAt(columns, 1024*int(i), rowOfTile, columnsTile+i)
						f.MultiplyTiles(columnsTile+i, weightsTile, i)
					}
					f.LoadTileAt(rows, 1024, rowOfTile, weightsTile+1)
					for i := range asm.Tile(wide) {
						f.MultiplyTiles(columnsTile+i, weightsTile+1, asm.Tile(wide)+i)
					}
					for i := range fetched {
						f.Op("PREFETCHT1", columns.At(64*i).Index(ahead, 1))
					}
					f.Op("ADDQ", 2*1024, rows)
					f.Op("ADDQ", 1024*wide, columns)
				})
				f.Op("ADDQ", partStride, part)
			})
			f.Op("MOVQ", rows, panel)
			f.Op("ADDQ", 64*fetched, ahead)
			add, done := f.Label("add"), f.Label("done")
			f.Op("CMPQ", field("to"), sumsAdd)
			f.Op("JEQ", add)
			for i := range 2 * wide {
				f.StoreTileAt(asm.Tile(i), sums, 1024*i, rowOfTile)
			}
			f.Op("ADDQ", 1024*2*wide, sums)
			f.Op("JMP", done)
			f.Mark(add)
			for i := range 2 * wide {
				f.StoreTileAt(asm.Tile(i), buffer, 1024*i, rowOfTile)
			}
			f.Op("XORQ", columns, columns)
			turn := f.Mark(f.Label("sums"))
			for i, v := range v {
				f.Op("VMOVUPS", buffer.At(64*i).Index(columns, 1), v)
				f.Op("VADDPS", sums.At(64*i), v, v)
				f.Op("VMOVUPS", v, sums.At(64*i))
			}
			f.Op("ADDQ", 64*len(v), columns)
			f.Op("ADDQ", 64*len(v), sums)
			f.Op("CMPQ", columns, 1024*2*wide)
			f.Op("JLT", turn)
			f.Mark(done)
		})
		f.Op("ADDQ", field("setStride"), set)
	})
	f.CloseTiles()
	f.Return()
}
