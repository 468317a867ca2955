package weights

import "unsafe"

const (
	tileRows = 32 // of weights, that the assembly multiplies at a time: two tiles
	tileSize = 16 // columns of a tile, and its rows
	tileStep = 32 // columns of weights that a tile holds

	// exactParts is how many bfloat16 make a float32.
	exactParts = 3

	// nearTiles is how many tiles of columns stay in a core's second cache, at the
	// widths of the released head, while all rows of weights meet them: twice those
	// of one call, which needs 32 rows as they are stored once for both. More columns
	// take their turn, and the weights are read again.
	nearTiles = 2 * maxStreamTiles
)

// tileColumns is rows of x as columns of tiles: row i is the sum of as many columns as it
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
func (t *tileColumns) stride() int { return t.steps * tileSize * tileStep }

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

// packColumns brings x into tiles.
func (r *Rows) packColumns(x []float32, n int) tileColumns {
	parts := exactParts
	if r.parts > 0 {
		parts = r.parts
	}
	t := tileColumns{count: ceilDiv(parts*n, tileSize), steps: r.cols / tileStep, parts: parts}
	t.tiles = scratch(r.b, &r.tiles, t.count*t.stride())
	// A tile's worth of split rows, and what is too much for it.
	split := scratch(r.b, &r.halves, (tileSize+exactParts)*r.cols)
	row, filled := 0, 0
	for tile := range t.count {
		for ; filled < tileSize && row < n; row++ {
			at := split[filled*r.cols:]
			if parts == exactParts {
				splitBF16(&splitBF16Args{x: &x[row*r.cols], high: &at[0], mid: &at[r.cols], low: &at[2*r.cols], chunks: r.cols / chunkColumns})
			} else {
				r.level.split[BF16][parts](&splitArgs{x: &x[row*r.cols], to: &at[0], chunks: r.cols / chunkColumns, step: 2 * chunkColumns, another: 2 * r.cols})
			}
			filled += parts
		}
		if filled < tileSize {
			clear(split[filled*r.cols : tileSize*r.cols])
			filled = tileSize
		}
		packTiles(&packTilesArgs{tiles: &t.tiles[tile*t.stride()], rows: &split[0], steps: t.steps, stride: 2 * r.cols})
		filled -= tileSize
		copy(split, split[tileSize*r.cols:][:filled*r.cols])
	}
	return t
}

// multiplyTiles decodes weights to bfloat16 and multiplies them in tiles, as fast as
// memory gives weights, or as tiles are multiplied. Rows with a value or scale for
// which that is not exact are left to multiplyPanels.
func (r *Rows) multiplyTiles(y []float32, yStride int, s *run, x *operand) {
	t := &x.columns
	panels := scratch(r.b, &r.tilePanel, 2*tileRows*streamStride)
	sums := scratch(r.b, &r.tileSums, tileRows*maxStreamTiles*tileSize)
	for near := 0; near < t.count; near += nearTiles {
		end := min(near+nearTiles, t.count)
		for j := 0; j < s.rows; j += tileRows {
			data, scale := s.row(j, 0, r.cols)
			rows := min(tileRows, s.rows-j)
			for tile := near; tile < end; tile += maxStreamTiles {
				count := min(maxStreamTiles, end-tile)
				a := streamTilesArgs{
					w: &data[0], scale: unsafe.SliceData(scale), panel: &panels[0], other: &panels[tileRows*streamStride],
					columns: &t.tiles[tile*t.stride()], sums: &sums[0], rows: rows, blocks: r.cols / streamColumns,
					rowStride: s.rowStride, scaleStride: s.scaleStride, columnStride: 2 * t.stride(),
				}
				if tile+count == end { // the next rows, of which nothing is there yet
					a.next = tileRows*s.rowStride - int(s.format.rowBytes(r.cols-streamColumns))
				}
				r.level.streamTiles[s.format][count](&a)
				first := tile * tileSize / t.parts
				n := min(x.n-first, maxStreamTiles*tileSize/t.parts)
				if a.special != 0 {
					some := operand{x: x.x[first*r.cols : (first+n)*r.cols], n: n}
					rest := s.slice(j, rows)
					r.multiplyPanels(y[first*yStride+j:], yStride, &rest, &some)
					continue
				}
				for i := range n {
					addParts(y[(first+i)*yStride+j:][:rows], sums[t.parts*i:], count*tileSize, t.parts)
				}
			}
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
