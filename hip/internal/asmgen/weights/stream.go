package weights

import (
	"fmt"

	"github.com/drafthead/drafthead/hip/internal/asmgen/asm"
)

const (
	// streamMost is the tiles of columns that streamTiles takes at most: their sums
	// with two tiles of weights leave two registers for what is multiplied.
	streamMost = 3
	// streamColumns is the columns of weights that are decoded at a time: few enough
	// that two panels of them stay in a core's first cache, beside all else.
	streamColumns = 128
	// streamStride is the values from row to row of a panel: odd in units of a cache
	// line, so that rows do not displace each other.
	streamStride = streamColumns + 32
)

// streamFile holds the products of stored rows in tile registers.
func streamFile() *asm.File {
	f := file("stream", "Products of stored rows with tiles of columns of x.",
		asm.Constant{Name: "streamColumns", Value: streamColumns}, asm.Constant{Name: "streamStride", Value: streamStride},
		asm.Constant{Name: "maxStreamTiles", Value: streamMost})
	for _, d := range tileDecoders() {
		for n := 1; n <= streamMost; n++ {
			streamTiles(f, d, n)
		}
	}
	return f
}

// streamTiles writes a function that decodes 32 rows of weights, some columns at a
// time, and meanwhile multiplies the columns before. For every step of 32 columns
// there are eight rows of two chunks to decode,
//
//	step      ├ upper tile · columns ┼ lower tile · columns ┼ 16 chunks ┤
//
// so that vectors and tiles are busy at the same time, and the memory too: the next
// columns of a row are fetched when some are decoded. Fetching them in the order in
// which they are stored, all that the next call decodes, was a third slower: the
// processor then does not follow the rows.
//
// Sums are in tiles 0 … 2 and 3 … 5.
func streamTiles(file *asm.File, d tileDecoder, tiles int) {
	f := file.Func(asm.AMX, fmt.Sprintf("streamTiles%d%s(a *streamTilesArgs)", tiles, d.format), fmt.Sprintf(
		"sets sums[j][i] = Σ w[j][c]·column[i][c] for up to 32 rows of %s and %s of columns, as bfloat16 with sums in float32, "+
			"and special if %s. Meanwhile it asks for the columns that follow in each row, and at the end for those that are next bytes on.",
		d.format, plural(tiles, "tile"), d.special))
	args, saving := f.Take(asm.DI), f.Take(asm.AX)
	rows, ahead := f.Take(asm.R13), f.Take(asm.R14)                 // left to decode, and from a row's columns to those that are fetched
	multiplied, panelStride := f.Take(asm.SI), f.Take(asm.R9)       // the panel that is
	columns, half, column := f.Take(asm.DX), f.Take(asm.BX), asm.CX // column shares code's register
	panel := f.Take(asm.R10)
	r := tileLent{w: f.Take(asm.R11), scale: f.Take(asm.R12), exponents: f.Take(asm.R8), outside: f.Take(asm.R15), code: f.Take(asm.CX)}
	field := func(name string) asm.Mem { return f.Field(args, name) }
	const weightsTile, columnsTile = asm.Tile(6), asm.Tile(7)
	sum := func(half, i int) asm.Tile { return asm.Tile(3*half + i) }

	f.Op("MOVQ", f.Arg("a"), args)
	keep(f, args, saving, "w", "scale")
	f.OpenTiles(asm.Table("tileConfig"))
	for h := range 2 {
		for i := range tiles {
			f.ClearTile(sum(h, i))
		}
	}
	decoding := d.begin(f, r)
	f.Op("MOVQ", field("columns"), columns)
	f.Op("MOVQ", 2*streamStride, panelStride)
	f.Op("XORQ", multiplied, multiplied) // nothing yet
	block := f.Mark(f.Label("block"))
	last, decoded, fetch := f.Label("last"), f.Label("decoded"), f.Label("fetch")
	f.Op("MOVQ", field("w"), r.w)
	f.Op("MOVQ", field("scale"), r.scale)
	f.Op("MOVQ", field("panel"), panel)
	f.Op("MOVQ", field("rows"), rows)
	f.Op("CMPQ", field("blocks"), 0)
	f.Op("JNE", decoded)
	f.Op("XORQ", rows, rows)
	f.Mark(decoded)
	f.Op("MOVQ", d.stored*streamColumns, ahead)
	f.Op("CMPQ", field("blocks"), 1)
	f.Op("JNE", fetch)
	f.Op("MOVQ", field("next"), ahead)
	f.Mark(fetch)
	f.Op("MOVQ", streamColumns/32, field("step"))
	f.Loop("step", field("step"), func() {
		decode := f.Label("decode")
		f.Op("TESTQ", multiplied, multiplied)
		f.Op("JZ", decode)
		rowOfTile := asm.AX
		f.Op("MOVQ", 64, rowOfTile)
		for h := range 2 {
			if h == 0 {
				f.Op("MOVQ", multiplied, half)
			} else {
				f.Op("ADDQ", 16*2*streamStride, half)
			}
			f.LoadTile(half, panelStride, weightsTile)
			f.Op("MOVQ", columns, column)
			for i := range tiles {
				if i > 0 {
					f.Op("ADDQ", field("columnStride"), column)
				}
				f.LoadTile(column, rowOfTile, columnsTile)
				f.MultiplyTiles(columnsTile, weightsTile, sum(h, i))
			}
		}
		f.Op("ADDQ", 64, multiplied)
		f.Op("ADDQ", 1024, columns)
		f.Mark(decode)
		// The next rows, as long as there are any.
		done, left := f.Label("done"), asm.AX
		f.Op("MOVQ", 32/(streamColumns/32), left)
		f.Loop("row", left, func() {
			f.Op("TESTQ", rows, rows)
			f.Op("JZ", done)
			for offset := 0; offset < d.stored*streamColumns; offset += 64 {
				f.Op("PREFETCHT0", r.w.At(offset).Index(ahead, 1))
			}
			for i := range streamColumns / chunk {
				decoding.chunk(i, [2]asm.Mem{panel.At(128 * i), panel.At(128*i + 64)})
			}
			f.Op("ADDQ", field("rowStride"), r.w)
			f.Op("ADDQ", field("scaleStride"), r.scale)
			f.Op("ADDQ", panelStride, panel)
			f.Op("DECQ", rows)
		})
		f.Mark(done)
	})
	// The panel that was decoded is the next to be multiplied, into the other one.
	f.Op("CMPQ", field("blocks"), 0)
	f.Op("JEQ", last)
	f.Op("DECQ", field("blocks"))
	f.Op("MOVQ", field("panel"), multiplied)
	f.Op("MOVQ", field("other"), saving)
	f.Op("MOVQ", multiplied, field("other"))
	f.Op("MOVQ", saving, field("panel"))
	f.Op("ADDQ", d.stored*streamColumns, field("w"))
	f.Op("ADDQ", streamColumns/32, field("scale"))
	f.Op("JMP", block)
	f.Mark(last)
	sums, sumStride := half, asm.AX
	f.Op("MOVQ", field("sums"), sums)
	f.Op("MOVQ", 64*tiles, sumStride)
	for h := range 2 {
		for i := range tiles {
			f.StoreTile(sum(h, i), sums, sumStride)
			f.Op("ADDQ", 64, sums)
		}
		f.Op("ADDQ", 15*64*tiles, sums)
	}
	f.CloseTiles()
	giveBack(f, args, saving, "w", "scale")
	markSpecial(f, args, decoding.numbers)
	f.Return()
}

func plural(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprint(n, " ", what, "s")
}
