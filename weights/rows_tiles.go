package weights

import "unsafe"

const (
	tileRows = 32 // of weights, that the assembly multiplies at a time: two tiles
	tileSize = 16 // columns of a tile, and its rows
	tileStep = 32 // columns of weights that a tile holds

	// parts is how many bfloat16 make a float32.
	parts = 3

	// tilePanelStride keeps the rows of a panel off each other in a cache.
	tilePanelStride = panelColumns + 32

	// farColumns is how many tiles of columns, whole rows of x, go with a panel of
	// weights, and farRows the rows of weights that meet them one after the other:
	// the columns, as wide as a panel, take a quarter of a core's second cache and
	// the sums half of it.
	farColumns = 30
	farRows    = 512
)

// tileColumns is rows of x as columns of tiles: row i is the sum of the columns
// 3i, 3i+1 and 3i+2, of the upper, middle and lower bits. Tiles that are
// multiplied with a panel of weights lie together: blocks of the steps of a panel,
// or all steps where weights are streamed.
//
//	tiles       [steps/block][columns/16][block]
//	a tile      [16 pairs of columns of w][16 columns][2] bfloat16
type tileColumns struct {
	tiles        []uint16
	count, steps int // tiles of columns, steps of 32 columns of w
	block        int // steps
}

// at returns where the tiles of a step begin, the first of its block, and the values
// from one to the next.
func (t *tileColumns) at(step, tile int) (at []uint16, stride int) {
	stride = min(t.block, t.steps-step) * tileSize * tileStep
	return t.tiles[step*t.count*tileSize*tileStep+tile*stride:], stride
}

// streamed tells whether weights are multiplied by streamTiles.
func (t *tileColumns) streamed() bool {
	return t.count <= maxStreamTiles && t.steps*tileStep%streamColumns == 0
}

// useTiles tells whether there are tiles for n rows of x and a part of the matrix.
func (r *Rows) useTiles(n int) bool {
	if n < 2 || r.cols < chunkColumns || r.level == nil {
		return false
	}
	for i := range r.segments {
		if r.level.decodeTiles[r.segments[i].Format] != nil {
			return true
		}
	}
	return false
}

// packColumns brings x into tiles.
func (r *Rows) packColumns(x []float32, n int) tileColumns {
	whole := r.cols / chunkColumns * chunkColumns
	t := tileColumns{count: ceilDiv(parts*n, tileSize), steps: whole / tileStep}
	t.block = panelColumns / tileStep
	if t.streamed() {
		t.block = t.steps
	}
	t.tiles = scratch(r.b, &r.tiles, t.count*t.steps*tileSize*tileStep)
	// A tile's worth of split rows, and what is too much for it.
	halves := scratch(r.b, &r.halves, (tileSize+parts)*whole)
	row, filled := 0, 0
	for tile := range t.count {
		for ; filled < tileSize && row < n; row++ {
			at := halves[filled*whole:]
			splitBF16(&splitBF16Args{x: &x[row*r.cols], high: &at[0], mid: &at[whole], low: &at[2*whole], chunks: whole / chunkColumns})
			filled += parts
		}
		if filled < tileSize {
			clear(halves[filled*whole : tileSize*whole])
			filled = tileSize
		}
		for step := 0; step < t.steps; step += t.block {
			to, _ := t.at(step, tile)
			packTiles(&packTilesArgs{tiles: &to[0], rows: &halves[step*tileStep], steps: min(t.block, t.steps-step), stride: 2 * whole})
		}
		filled -= tileSize
		copy(halves, halves[tileSize*whole:][:filled*whole])
	}
	return t
}

// multiplyTiles decodes weights to bfloat16 and multiplies them in tiles. Rows with a
// value or scale for which that is not exact are left to multiplyPanels.
func (r *Rows) multiplyTiles(y []float32, yStride int, s *run, x *Operand) {
	if x.columns.streamed() {
		r.streamTiles(y, yStride, s, x)
		return
	}
	t := &x.columns
	columns, rows := min(t.count, farColumns), farRows
	panel := scratch(r.b, &r.tilePanel, tileRows*tilePanelStride)
	sums := scratch(r.b, &r.tileSums, rows*columns*tileSize)
	var special [farRows / tileRows]bool
	for tile := 0; tile < t.count; tile += columns {
		n := min(columns, t.count-tile)
		for j := 0; j < s.rows; j += rows {
			g := tileGroup{r: r, s: s, first: j, rows: min(rows, s.rows-j), t: t, tile: tile, tiles: n, panel: panel, sums: sums, special: special[:]}
			g.multiply()
			g.store(y, yStride, x)
		}
	}
}

// streamTiles is multiplyTiles for few rows of x, as fast as memory gives weights.
func (r *Rows) streamTiles(y []float32, yStride int, s *run, x *Operand) {
	t := &x.columns
	columns, stride := t.at(0, 0)
	panels := scratch(r.b, &r.tilePanel, 2*tileRows*streamStride)
	sums := scratch(r.b, &r.tileSums, tileRows*t.count*tileSize)
	for j := 0; j < s.rows; j += tileRows {
		data, scale := s.row(j, 0, r.cols)
		rows := min(tileRows, s.rows-j)
		a := streamTilesArgs{
			w: &data[0], scale: unsafe.SliceData(scale), panel: &panels[0], other: &panels[tileRows*streamStride],
			next:    tileRows*s.rowStride - int(s.format.RowBytes(t.steps*tileStep-streamColumns)),
			columns: &columns[0], sums: &sums[0], rows: rows, blocks: t.steps * tileStep / streamColumns,
			rowStride: s.rowStride, scaleStride: s.scaleStride, columnStride: 2 * stride,
		}
		r.level.streamTiles[s.format][t.count](&a)
		special := [1]bool{a.special != 0}
		g := tileGroup{r: r, s: s, first: j, rows: rows, t: t, tiles: t.count, sums: sums, special: special[:]}
		g.store(y, yStride, x)
	}
}

// tileGroup is some rows of weights and some tiles of columns.
type tileGroup struct {
	r           *Rows
	s           *run
	first, rows int
	t           *tileColumns
	tile, tiles int
	panel       []uint16
	sums        []float32 // [rows][tiles·16]
	special     []bool    // by 32 rows: not multiplied
}

func (g *tileGroup) multiply() {
	s, cols := g.s, g.r.cols
	whole := cols / chunkColumns * chunkColumns
	clear(g.special)
	for c := 0; c < whole; c += panelColumns {
		width := min(panelColumns, whole-c)
		for row := 0; row < g.rows; row += tileRows {
			if g.special[row/tileRows] {
				continue
			}
			data, scale := s.row(g.first+row, c, cols)
			d := decodeArgs{
				panel: unsafe.Pointer(&g.panel[0]), w: &data[0], scale: unsafe.SliceData(scale),
				next: s.ahead(g.first+row, c, whole, min(g.rows, tileRows)),
				rows: min(tileRows, g.rows-row), chunks: width / chunkColumns,
				panelStride: 2 * tilePanelStride, rowStride: s.rowStride, scaleStride: s.scaleStride,
			}
			g.r.level.decodeTiles[s.format](&d)
			if d.special != 0 {
				g.special[row/tileRows] = true
				continue
			}
			columns, stride := g.t.at(c/tileStep, g.tile)
			m := multiplyTilesArgs{
				panel: &g.panel[0], columns: &columns[0],
				sums: &g.sums[row*g.tiles*tileSize], steps: width / tileStep, columnTiles: g.tiles,
				panelStride: 2 * tilePanelStride, columnStride: 2 * stride, sumStride: 4 * g.tiles * tileSize,
			}
			if c == 0 {
				m.first = 1
			}
			multiplyTiles(&m)
		}
	}
}

// store adds up the three sums of each row of x, the smallest first, and
// writes them to y; rows that are left are multiplied otherwise.
func (g *tileGroup) store(y []float32, yStride int, x *Operand) {
	first := g.tile * tileSize / parts // farColumns holds whole rows of x
	n := min(x.n-first, g.tiles*tileSize/parts)
	stride := g.tiles * tileSize
	for row := 0; row < g.rows; row += tileRows {
		count := min(tileRows, g.rows-row)
		if g.special[row/tileRows] {
			cols := g.r.cols
			some := Operand{x: x.x[first*cols : (first+n)*cols], n: n}
			rest := g.s.slice(g.first+row, count)
			g.r.multiplyPanels(y[first*yStride+g.first+row:], yStride, &rest, &some)
			continue
		}
		for i := range n {
			out := y[(first+i)*yStride+g.first+row:][:count]
			of := g.sums[row*stride+parts*i:]
			for j := range out {
				sum := of[j*stride:][:parts]
				out[j] = sum[2] + sum[1] + sum[0]
			}
		}
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
