package weights

import "unsafe"

const (
	// setTiles is the tiles of rows of x of a set: each tile of weights that is loaded
	// meets both, and each of them both tiles of a panel.
	setTiles = 2
	// nearPanels is the panels, of tileRows rows of weights, that meet a set of tiles while
	// it is near: as many as stay in a core's second cache beside their sums with
	// nearSets sets. More sets take their turn, and weights are decoded again.
	nearPanels, nearSets = 4, 16
)

// setColumns is the columns of a panel, by the parts of x: those of a set stay in a core's
// first cache, or nearly so. It is a multiple of streamColumns.
var setColumns = [exactParts + 1]int{1: 512, 2: 256, 3: 256}

// tileSets is many rows of x as tiles, two by two but for the last one of an odd number. Parts
// of an x are in tiles of their own, in the same sum: those of the lowest bits come first.
//
//	tiles       [count/2] sets of two, and of the last one
//	a set       [parts][steps][tiles of the set]
//	a tile      [16 pairs of columns of w][16 rows of x][2] bfloat16
type tileSets struct {
	tiles        []uint16
	count, steps int // tiles of rows of x, steps of 32 columns of w
	parts        int // bfloat16 that stand for a value of x
}

// stride is the values of all that a tile of rows of x is.
func (t *tileSets) stride() int { return t.steps * t.parts * tileValues }

// at returns where a step of a set begins, and the tiles of the set.
func (t *tileSets) at(set, step int) (index, tiles int) {
	tiles = min(setTiles, t.count-set*setTiles)
	return set*setTiles*t.stride() + step*tiles*tileValues, tiles
}

// packSet brings the columns from c to end of 16 rows of x, or of what is left, into tiles.
func (r *Rows) packSet(o *operand, tile, c, end int) {
	t, width := &o.sets, end-c
	split := scratch(r.b, &r.halves, t.parts*tileSize*width)
	n := min(tileSize, o.n-tile*tileSize)
	for i := range n {
		r.splitParts(split[i*width:], o.from.row(tile*tileSize+i, r.cols)[c:end], t.parts, tileSize*width)
	}
	at, tiles := t.at(tile/setTiles, c/tileStep)
	for p := range t.parts {
		rows := split[p*tileSize*width:][:tileSize*width]
		clear(rows[n*width:])
		packTiles(&packTilesArgs{
			tiles: &t.tiles[at+((t.parts-1-p)*t.steps*tiles+tile%setTiles)*tileValues], rows: &rows[0],
			steps: width / tileStep, stride: 2 * width, apart: 2 * tiles * tileValues,
		})
	}
}

// multiplySets decodes weights to panels of bfloat16, of some columns of some rows, and
// multiplies them with all rows of x, a panel of columns after the other. Rows with a value
// or scale for which that is not exact are left to multiplyPanels.
func (r *Rows) multiplySets(y []float32, yStride int, s *run, x *operand) {
	t := &x.sets
	sets := ceilDiv(t.count, setTiles)
	for first := 0; first < sets; {
		n := evenShare(sets-first, nearSets)
		for j := 0; j < s.rows; {
			panels := evenShare(ceilDiv(s.rows-j, tileRows), nearPanels)
			g := setGroup{r: r, s: s, x: x, j: j, rows: min(panels*tileRows, s.rows-j), panels: panels, first: first, sets: n}
			g.multiply()
			g.store(y, yStride)
			j += g.rows
		}
		first += n
	}
}

// setGroup is panels of weights, from row j on, and sets of rows of x.
type setGroup struct {
	r           *Rows
	s           *run
	x           *operand
	j, rows     int
	panels      int
	first, sets int
	sums        []float32 // [sets][panels][2][tiles of the set] tiles
	special     [nearPanels]bool
	whole, odd  int // sets of two tiles, and of one
}

func (g *setGroup) multiply() {
	r, s, t := g.r, g.s, &g.x.sets
	g.whole = min(g.sets, t.count/setTiles-g.first)
	g.odd = g.sets - g.whole
	most := setColumns[t.parts]
	panels := scratch(r.b, &r.tilePanel, nearPanels*tileRows*most)
	buffer := scratch(r.b, &r.totals, setTiles*2*tileSize*tileSize)
	g.sums = scratch(r.b, &r.tileSums, g.panels*2*(g.whole*setTiles+g.odd)*tileSize*tileSize)
	decode, multiply := &r.calls.decodeTiles, &r.calls.tiles
	for c := 0; c < r.cols; c += most {
		width := min(most, r.cols-c)
		for p := range g.panels {
			row := g.j + p*tileRows
			data, scale := s.row(row, c, r.cols)
			*decode = decodeTilesArgs{
				w: &data[0], scale: unsafe.SliceData(scale), panel: &panels[p*tileRows*width],
				rows: min(tileRows, s.rows-row), blocks: width / streamColumns,
				rowStride: s.rowStride, scaleStride: s.scaleStride, ahead: int(s.format.rowBytes(most)),
			}
			if c+width == r.cols { // the first columns of the next rows
				decode.ahead = g.panels*tileRows*s.rowStride - int(s.format.rowBytes(c))
			}
			r.level.decodeTiles[s.format](decode)
			g.special[p] = g.special[p] || decode.special != 0
		}
		*multiply = multiplyTilesArgs{panel: &panels[0], buffer: &buffer[0], panels: g.panels, parts: t.parts, steps: width / tileStep}
		switch {
		case c == 0:
			multiply.to = sumsSet
		case t.parts < exactParts:
			multiply.to = sumsGoOn
		default:
			multiply.to = sumsAdd
		}
		at := 0
		for _, of := range [...]struct{ tiles, first, sets int }{{setTiles, g.first, g.whole}, {1, g.first + g.whole, g.odd}} {
			if of.sets == 0 {
				continue
			}
			index, _ := t.at(of.first, c/tileStep)
			multiply.columns, multiply.sums, multiply.sets = &t.tiles[index], &g.sums[at], of.sets
			multiply.setStride, multiply.partStride = 2*of.tiles*t.stride(), 2*of.tiles*t.steps*tileValues
			r.level.multiplyTiles[of.tiles](multiply)
			at += of.sets * g.panels * 2 * of.tiles * tileSize * tileSize
		}
	}
}

// store writes the results.
func (g *setGroup) store(y []float32, yStride int) {
	r, x := g.r, g.x
	sums := g.sums
	for tile := g.first * setTiles; tile < min(x.sets.count, (g.first+g.sets)*setTiles); tile += setTiles {
		n := min(setTiles, x.sets.count-tile)
		for half := range 2 * g.panels {
			for k := range n {
				if j := half * tileSize; j < g.rows {
					g.storeTile(sums[:tileSize*tileSize], y, yStride, (tile+k)*tileSize, g.j+j)
				}
				sums = sums[tileSize*tileSize:]
			}
		}
	}
	for p := range g.panels {
		if g.special[p] {
			j, i := g.j+p*tileRows, g.first*setTiles*tileSize
			rest := g.s.slice(j, min(tileRows, g.s.rows-j))
			n := min(x.n-i, g.sets*setTiles*tileSize)
			r.multiplyPanels(y[i*yStride+j:], yStride, &rest, r.floats(x, i, n))
		}
	}
}

// storeTile writes the results of 16 rows of x from i on with 16 rows of weights from j on, as
// far as there are any.
func (g *setGroup) storeTile(tile, y []float32, yStride, i, j int) {
	n, m := min(tileSize, g.x.n-i), min(tileSize, g.s.rows-j)
	if n == tileSize && m == tileSize {
		to := y[i*yStride+j:][:(tileSize-1)*yStride+tileSize]
		transposeTile(&transposeTileArgs{tile: &tile[0], y: &to[0], stride: 4 * yStride})
		return
	}
	for k := range n {
		for l := range m {
			y[(i+k)*yStride+j+l] = tile[l*tileSize+k]
		}
	}
}
