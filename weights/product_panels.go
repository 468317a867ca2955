package weights

import "unsafe"

const (
	// panelColumns is the columns that are decoded at a time: a panel of them stays in a
	// core's first cache.
	panelColumns = 1536
	// groupRows is the rows of weights that go through the columns side by side, a
	// panel after the other, so that each panel of x is loaded once for all of them.
	groupRows = 16
	// operandRows is the rows of x for which weights are decoded once.
	operandRows = 64
)

// multiplyPanels decodes weights to float32, four rows and some columns at a
// time, and multiplies them while they are near.
func (r *Rows) multiplyPanels(y []float32, yStride int, s *run, x *operand) {
	most := groupRows * min(operandRows, x.n)
	panel := scratch(r.b, &r.panels, panelRows*panelColumns)
	sums, totals := scratch(r.b, &r.sums, most*r.level.lanes), scratch(r.b, &r.totals, most)
	xs := r.ordered(x, s.format)
	for i := 0; i < x.n; i += operandRows {
		n := min(operandRows, x.n-i)
		for j := 0; j < s.rows; j += groupRows {
			g := panelGroup{r: r, s: s, first: j, rows: min(groupRows, s.rows-j), x: xs[i*r.cols:], n: n, panel: panel, sums: sums}
			g.multiply()
			g.store(y[i*yStride+j:], yStride, totals)
		}
	}
}

// panelRows is the rows of weights that the assembly multiplies at a time.
const panelRows = 4

// panelGroup is up to groupRows rows of weights and operandRows rows of x. The
// sums are vectors, for each four rows of weights j and rows of x i at once:
//
//	four rows of weights    0                           1
//	rows of x               i < 4          4 ≤ i < 8    …
//	vectors                 [4 j] [4 i]    [4 j] [4 i]
type panelGroup struct {
	r           *Rows
	s           *run
	first, rows int
	x           []float32
	n           int
	panel, sums []float32
}

func (g *panelGroup) multiply() {
	level, s, cols := g.r.level, g.s, g.r.cols
	whole := cols / chunkColumns * chunkColumns
	fours := ceilDiv(g.rows, panelRows)
	clear(g.sums[:fours*panelRows*g.n*level.lanes])
	for c := 0; c < whole; c += panelColumns {
		width := min(panelColumns, whole-c)
		for four := range fours {
			row := g.first + four*panelRows
			data, scale := s.row(row, c, cols)
			d := &g.r.calls.decode
			*d = decodeArgs{
				panel: unsafe.Pointer(&g.panel[0]), w: &data[0], scale: unsafe.SliceData(scale), next: s.ahead(row, c, whole, groupRows),
				rows: min(panelRows, s.rows-row), chunks: width / chunkColumns,
				panelStride: 4 * panelColumns, rowStride: s.rowStride, scaleStride: s.scaleStride,
			}
			level.decode[s.format](d)
			if d.special != 0 {
				g.decodePlain(row, c, width)
			}
			for i, n := 0, 0; i < g.n; i += n {
				n = evenShare(g.n-i, level.rowsAtOnce)
				p := &g.r.calls.product
				*p = productPanelArgs{
					panel: &g.panel[0], x: &g.x[i*cols+c], sums: &g.sums[panelRows*(four*g.n+i)*level.lanes],
					chunks: width / chunkColumns, panelStride: 4 * panelColumns, xStride: 4 * cols,
				}
				level.product[n](p)
			}
		}
	}
}

// decodePlain decodes a panel in plain Go, for values that the assembly leaves.
func (g *panelGroup) decodePlain(row, c, width int) {
	for j := range min(panelRows, g.s.rows-row) {
		data, scale := g.s.row(row+j, c, c+width)
		g.s.format.Decode(g.panel[j*panelColumns:][:width], data, scale)
	}
}

// ahead returns the address of what is needed some panels after the one at
// (row, c), as a group of that many rows goes through the columns.
func (s *run) ahead(row, c, whole, group int) uintptr {
	c += 2 * panelColumns
	if c >= whole {
		row, c = row+group, c-whole
	}
	return uintptr(unsafe.Pointer(&s.data[0])) + uintptr(row*s.rowStride) + uintptr(s.format.rowBytes(c))
}

// store adds up the lanes of the sums and writes them to y.
func (g *panelGroup) store(y []float32, yStride int, totals []float32) {
	fours := ceilDiv(g.rows, panelRows)
	g.r.level.sumLanes(&sumLanesArgs{sums: &g.sums[0], y: &totals[0], n: fours * panelRows * g.n})
	for four := range fours {
		rows := min(panelRows, g.rows-four*panelRows)
		for first, n := 0, 0; first < g.n; first += n {
			n = evenShare(g.n-first, g.r.level.rowsAtOnce)
			of := totals[panelRows*(four*g.n+first):]
			for j := range rows {
				for i := range n {
					y[(first+i)*yStride+four*panelRows+j] = of[j*n+i]
				}
			}
		}
	}
}
