package weights

import "unsafe"

const (
	tileRows = 32 // of weights, that the assembly multiplies at a time: two tiles
	tileSize = 16 // columns of a tile, and its rows
	tileStep = 32 // columns of weights that a tile holds

	tileValues = tileSize * tileStep // bfloat16 of a tile

	// exactParts is how many bfloat16 make a float32.
	exactParts = 3
)

// tileColumns is few rows of x as columns of tiles: row i is the sum of as many columns as it
// has parts, such as 3i, 3i+1 and 3i+2, of the upper, middle and lower bits.
//
//	tiles       [columns/16][steps]
//	a tile      [16 pairs of columns of w][16 columns][2] bfloat16
type tileColumns struct {
	tiles        []uint16
	count, steps int // tiles of columns, steps of 32 columns of w
	parts        int // columns that a row of x is
}

// stride is the values from tile to tile of the same step.
func (t *tileColumns) stride() int { return t.steps * tileValues }

// useTiles reports whether there are tiles for n rows of x and a part of the matrix.
func (r *Rows) useTiles(n int) bool {
	if n < 2 || r.cols%streamColumns != 0 || r.level == nil {
		return false
	}
	for i := range r.segments {
		if r.level.streamTiles[r.segments[i].format][1] != nil {
			return true
		}
	}
	return false
}

// packColumns brings the columns from c to end of all rows into tiles.
func (r *Rows) packColumns(o *operand, c, end int) {
	t, width := &o.columns, end-c
	// A tile's worth of split rows, and what is too much for it.
	split := scratch(r.b, &r.halves, (tileSize+exactParts)*width)
	row, filled := 0, 0
	for tile := range t.count {
		for ; filled < tileSize && row < o.n; row++ {
			r.splitParts(split[filled*width:], o.from.row(row, r.cols)[c:end], t.parts, width)
			filled += t.parts
		}
		if filled < tileSize {
			clear(split[filled*width : tileSize*width])
			filled = tileSize
		}
		packTiles(&packTilesArgs{
			tiles: &t.tiles[tile*t.stride()+c/tileStep*tileValues], rows: &split[0],
			steps: width / tileStep, stride: 2 * width, apart: 2 * tileValues,
		})
		filled -= tileSize
		copy(split, split[tileSize*width:][:filled*width])
	}
}

// splitParts splits x into bfloat16, each part stride values after the one before.
func (r *Rows) splitParts(to []uint16, x []float32, parts, stride int) {
	chunks := len(x) / chunkColumns
	if parts == exactParts {
		splitBF16(&splitBF16Args{x: &x[0], high: &to[0], mid: &to[stride], low: &to[2*stride], chunks: chunks})
		return
	}
	r.level.split[BF16][parts](&splitArgs{x: &x[0], to: &to[0], chunks: chunks, step: 2 * chunkColumns, another: 2 * stride})
}

// multiplyTiles decodes weights to bfloat16 and multiplies them in tiles, as fast as
// memory gives weights, or as tiles are multiplied. Rows with a value or scale for
// which that is not exact are left to multiplyPanels.
func (r *Rows) multiplyTiles(y []float32, yStride int, s *run, x *operand) {
	t := &x.columns
	panels := scratch(r.b, &r.tilePanel, 2*tileRows*streamStride)
	sums := scratch(r.b, &r.tileSums, tileRows*maxStreamTiles*tileSize)
	for j := 0; j < s.rows; j += tileRows {
		data, scale := s.row(j, 0, r.cols)
		rows := min(tileRows, s.rows-j)
		a := streamTilesArgs{
			w: &data[0], scale: unsafe.SliceData(scale), panel: &panels[0], other: &panels[tileRows*streamStride],
			columns: &t.tiles[0], sums: &sums[0], rows: rows, blocks: r.cols / streamColumns,
			rowStride: s.rowStride, scaleStride: s.scaleStride, columnStride: 2 * t.stride(),
			next: tileRows*s.rowStride - int(s.format.rowBytes(r.cols-streamColumns)), // the next rows, of which nothing is there yet
		}
		r.level.streamTiles[s.format][t.count](&a)
		if a.special != 0 {
			rest := s.slice(j, rows)
			r.multiplyPanels(y[j:], yStride, &rest, r.floats(x, 0, x.n))
			continue
		}
		for i := range x.n {
			addParts(y[i*yStride+j:][:rows], sums[t.parts*i:], t.count*tileSize, t.parts)
		}
	}
}

// addParts adds up the sums of a row of x, the smallest first.
func addParts(y, sums []float32, stride, parts int) {
	for j := range y {
		of := sums[j*stride:][:parts]
		sum := of[parts-1]
		for p := parts - 2; p >= 0; p-- {
			sum += of[p]
		}
		y[j] = sum
	}
}

// slice returns count rows from first on.
func (s *run) slice(first, count int) run {
	some := *s
	some.rows, some.data = count, s.data[first*s.rowStride:]
	if s.scaleStride > 0 {
		some.scale = s.scale[first*s.scaleStride:]
	}
	return some
}
