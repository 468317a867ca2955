package weights

import "unsafe"

// Prepare returns n rows of x, n × cols, for Multiply. It takes scratch of its
// kernel where x is needed in another form.
func (r *Rows) Prepare(x []float32, n int) *Operand {
	o := r.Plain(x, n)
	if r.useTiles(n) {
		o.columns = r.packColumns(o.x, n)
	}
	return o
}

// Multiply is [Rows.Multiply64] for the host, in float32. How it sums depends on
// the vector instructions, the format and whether there is one row of x or more,
// but never on the other rows of x:
//
//	plain Go         over 32 columns in float32, over these sums in float64
//	AVX2, AVX-512    in 8 or 16 lanes and several sums a lane, then over these;
//	                 for one row of MXFP8 and INT8 over 32 columns first
//	AMX              for several rows of MXFP8 and BF16: x as three bfloat16 that
//	                 add up to it, pair by pair of columns in order, then over the
//	                 three sums
//
// The error is a few units in the last place of the sum of the magnitudes of its
// terms. Columns behind the last 64 are added in float64.
func (r *Rows) Multiply(y []float32, yStride, first, count int, x *Operand) {
	for count > 0 {
		s := r.stored(first, count)
		r.multiplyRun(y, yStride, &s, x)
		y, first, count = y[min(s.rows, len(y)):], first+s.rows, count-s.rows
	}
}

func (r *Rows) multiplyRun(y []float32, yStride int, s *run, x *Operand) {
	whole := r.cols / chunkColumns * chunkColumns
	if r.level == nil || whole == 0 {
		r.multiplyPlain(y, yStride, s, x)
		return
	}
	if r.level.dots[s.format][1] == nil {
		r.multiplyDecoded(y, yStride, s, x)
		return
	}
	switch {
	case x.n == 1 && (s.format.Quantized() || s.rows < r.level.dotsRows):
		r.multiplyRow(y, s, x)
	case x.columns.tiles != nil && r.level.streamTiles[s.format][1] != nil:
		r.multiplyTiles(y, yStride, s, x)
	case x.n <= fewRows && s.rows >= r.level.dotsRows:
		r.multiplyDots(y, yStride, s, x)
	default:
		r.multiplyPanels(y, yStride, s, x)
	}
	if whole < r.cols {
		r.addTail(y, yStride, s, x, whole)
	}
}

// chunkColumns is the columns that the assembly takes at a time.
const chunkColumns = 64

// multiplyRow multiplies one row of x, a row of weights after the other.
func (r *Rows) multiplyRow(y []float32, s *run, x *Operand) {
	r.level.dot[s.format](&dotArgs{
		w: &s.data[0], scale: unsafe.SliceData(s.scale), x: &x.x[0], y: &y[0],
		rows: s.rows, chunks: r.cols / chunkColumns, rowStride: s.rowStride, scaleStride: s.scaleStride,
	})
}

// multiplyDots multiplies a few rows of x, reading the weights as they are stored.
// Where there are more rows than are multiplied at once, the weights are read again
// while they are near.
func (r *Rows) multiplyDots(y []float32, yStride int, s *run, x *Operand) {
	level := r.level
	whole := r.cols / chunkColumns * chunkColumns
	rows := s.rows / level.dotsRows * level.dotsRows
	totals := scratch(r.b, &r.totals, nearRows*maxDots+4)
	for first := 0; first < rows; first += nearRows {
		n := min(nearRows, rows-first)
		data, scale := s.row(first, 0, r.cols)
		for i, parts := 0, ceilDiv(x.n, maxDots); parts > 0; parts-- {
			count := ceilDiv(x.n-i, parts)
			d := dotsArgs{
				w: &data[0], scale: unsafe.SliceData(scale), x: &x.x[i*r.cols], y: &totals[0],
				groups: n / level.dotsRows, chunks: whole / chunkColumns,
				rowStride: s.rowStride, scaleStride: s.scaleStride, xStride: 4 * r.cols,
			}
			level.dots[s.format][count](&d)
			if d.special != 0 {
				some := s.slice(first, n)
				r.multiplyPanels(y[first:], yStride, &some, x)
				break
			}
			for k := range count {
				out := y[(i+k)*yStride+first:][:n]
				for j := range out {
					out[j] = totals[j*count+k]
				}
			}
			i += count
		}
	}
	if rows < s.rows {
		rest := s.slice(rows, s.rows-rows)
		if x.n == 1 {
			r.multiplyRow(y[rows:], &rest, x)
			return
		}
		r.multiplyPanels(y[rows:], yStride, &rest, x)
	}
}

const (
	// nearRows is the rows of weights that are multiplied with all rows of x before
	// the next ones are read.
	nearRows = 16
	// fewRows is the rows of x up to which that is faster than to decode the
	// weights to panels.
	fewRows = 12
)

// multiplyDecoded decodes each row before it is multiplied.
func (r *Rows) multiplyDecoded(y []float32, yStride int, s *run, x *Operand) {
	w := r.decoded()
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 4*len(w))
	for j := range s.rows {
		data, scale := s.row(j, 0, r.cols)
		s.format.Decode(w, data, scale)
		one := run{format: F32, rows: 1, data: bytes, rowStride: len(bytes)}
		r.multiplyRun(y[j:], yStride, &one, x)
	}
}

// addTail adds the columns from first on.
func (r *Rows) addTail(y []float32, yStride int, s *run, x *Operand, first int) {
	var w [chunkColumns]float32
	tail := w[:r.cols-first]
	for j := range s.rows {
		data, scale := s.row(j, first, r.cols)
		s.format.Decode(tail, data, scale)
		for i := range x.n {
			sum := 0.0
			for c, v := range x.x[i*r.cols+first : (i+1)*r.cols] {
				sum += float64(tail[c]) * float64(v)
			}
			y[i*yStride+j] += float32(sum)
		}
	}
}

const (
	// panelColumns is the columns that are decoded at a time: a panel of them and
	// the same columns of some rows of x stay in a core's first cache.
	panelColumns = 512
	// groupRows is the rows of weights that go through the columns side by side, a
	// panel after the other, so that each panel of x is loaded once for all of them.
	groupRows = 16
	// operandRows is the rows of x for which weights are decoded once.
	operandRows = 64
)

// multiplyPanels decodes weights to float32, four rows and some columns at a
// time, and multiplies them while they are near.
func (r *Rows) multiplyPanels(y []float32, yStride int, s *run, x *Operand) {
	most := groupRows * min(operandRows, x.n)
	panel := scratch(r.b, &r.panels, panelRows*panelColumns)
	sums, totals := scratch(r.b, &r.sums, most*r.level.lanes), scratch(r.b, &r.totals, most)
	for i := 0; i < x.n; i += operandRows {
		n := min(operandRows, x.n-i)
		for j := 0; j < s.rows; j += groupRows {
			g := panelGroup{r: r, s: s, first: j, rows: min(groupRows, s.rows-j), x: x.x[i*r.cols:], n: n, panel: panel, sums: sums}
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
			d := decodeArgs{
				panel: unsafe.Pointer(&g.panel[0]), w: &data[0], scale: unsafe.SliceData(scale), next: s.ahead(row, c, whole, groupRows),
				rows: min(panelRows, s.rows-row), chunks: width / chunkColumns,
				panelStride: 4 * panelColumns, rowStride: s.rowStride, scaleStride: s.scaleStride,
			}
			level.decode[s.format](&d)
			if d.special != 0 {
				g.decodePlain(row, c, width)
			}
			g.eachOperand(func(i, n int) {
				level.product[n](&productPanelArgs{
					panel: &g.panel[0], x: &g.x[i*cols+c], sums: &g.sums[panelRows*(four*g.n+i)*level.lanes],
					chunks: width / chunkColumns, panelStride: 4 * panelColumns, xStride: 4 * cols,
				})
			})
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
	return uintptr(unsafe.Pointer(&s.data[0])) + uintptr(row*s.rowStride) + uintptr(s.format.RowBytes(c))
}

// eachOperand calls do for the rows of x, as many at once as there are registers
// for, but evenly.
func (g *panelGroup) eachOperand(do func(i, n int)) {
	for i, parts := 0, ceilDiv(g.n, g.r.level.rowsAtOnce); parts > 0; parts-- {
		n := ceilDiv(g.n-i, parts)
		do(i, n)
		i += n
	}
}

// store adds up the lanes of the sums and writes them to y.
func (g *panelGroup) store(y []float32, yStride int, totals []float32) {
	fours := ceilDiv(g.rows, panelRows)
	g.r.level.sumLanes(&sumLanesArgs{sums: &g.sums[0], y: &totals[0], n: fours * panelRows * g.n})
	for four := range fours {
		rows := min(panelRows, g.rows-four*panelRows)
		g.eachOperand(func(first, n int) {
			of := totals[panelRows*(four*g.n+first):]
			for j := range rows {
				for i := range n {
					y[(first+i)*yStride+four*panelRows+j] = of[j*n+i]
				}
			}
		})
	}
}
