package weights

import "unsafe"

// nearPairs is the rows of x for which a panel is decoded once.
const nearPairs = 96

// multiplyPairsPanels decodes weights to bfloat16, some rows and columns at a time, and
// multiplies them with all rows of x while they are near: of a panel's columns the first
// parts of x, then the others. Rows with a value or scale for which that is not exact are
// left to multiplyPanels.
func (r *Rows) multiplyPairsPanels(y []float32, yStride int, s *run, x *operand) {
	together := r.together(x.n)
	most := pairsPanelRows * min(nearPairs, ceilDiv(x.n, together)*together)
	panel := scratch(r.b, &r.pairsPanel, pairsPanelRows*pairsPanelStride)
	sums, totals := scratch(r.b, &r.sums, most*r.level.lanes), scratch(r.b, &r.totals, most)
	for i := 0; i < x.n; i += nearPairs {
		n := min(nearPairs, x.n-i)
		for j := 0; j < s.rows; j += pairsPanelRows {
			rows := min(pairsPanelRows, s.rows-j)
			g := pairsGroup{r: r, s: s, first: j, rows: rows, x: x.pairs[s.format], firstX: i, n: n, together: together, panel: panel, sums: sums}
			if g.multiply() {
				g.total(totals)
				if g.store(y[i*yStride+j:], yStride, totals) {
					continue
				}
			}
			rest := s.slice(j, rows)
			r.multiplyPanels(y[i*yStride+j:], yStride, &rest, r.floats(x, i, n))
			sums, totals = scratch(r.b, &r.sums, most*r.level.lanes), scratch(r.b, &r.totals, most)
		}
	}
}

// pairsGroup is up to pairsPanelRows rows of weights and nearPairs rows of x. The sums are
// vectors, for up to maxPanelX rows of x, or maxMatrixX pairs of them, at once:
//
//	rows of x    first …                      next …
//	vectors      [pairsPanelRows] [rows]      [pairsPanelRows] [rows]
//	             [pairsPanelRows/2] [pairs]   [pairsPanelRows/2] [pairs]
type pairsGroup struct {
	r           *Rows
	s           *run
	first, rows int
	x           []uint16
	firstX, n   int
	together    int // rows of x, see Rows.together
	panel       []uint16
	sums        []float32
}

// multiply returns false if the weights are not exact in bfloat16.
func (g *pairsGroup) multiply() bool {
	r := g.r
	whole := r.cols / chunkColumns * chunkColumns
	step := chunkColumns * r.parts * g.together
	stride := whole / chunkColumns * step
	product := &r.calls.productPairs
	for c := 0; c < whole; c += pairsPanelColumns {
		width := min(pairsPanelColumns, whole-c)
		if !g.decode(c, width, whole) {
			return false
		}
		*product = productPairsArgs{panel: &g.panel[0], chunks: width / chunkColumns, xStride: 2 * stride, step: 2 * step}
		for i, n := 0, 0; i < g.n; i += n {
			n = g.share(i)
			product.sums = &g.sums[g.sumsOf(i)]
			product.first = 0
			if c == 0 {
				product.first = 1
			}
			at := (g.firstX+i)/g.together*stride + c/chunkColumns*step
			for p := range r.parts {
				product.x = &g.x[at+p*chunkColumns]
				g.product(n)(product)
				product.first = 0
			}
		}
	}
	return true
}

// decode fills the panel with some columns from c on. It returns false if those are not exact
// in bfloat16.
func (g *pairsGroup) decode(c, width, whole int) bool {
	r, s, a := g.r, g.s, &g.r.calls.decode
	data, scale := s.row(g.first, c, r.cols)
	*a = decodeArgs{
		panel: unsafe.Pointer(&g.panel[0]), w: &data[0], scale: unsafe.SliceData(scale), next: g.ahead(c, whole),
		rows: g.rows, chunks: width / chunkColumns,
		panelStride: 2 * pairsPanelStride, rowStride: s.rowStride, scaleStride: s.scaleStride,
	}
	if r.level.matrix == nil {
		r.level.decodePairs[s.format](a)
		return a.special == 0
	}
	a.rows, a.panelStride = g.rows/2, 2*2*pairsPanelStride
	if a.rows > 0 {
		r.level.decodePairs[s.format](a)
	}
	if g.rows%2 == 1 { // a last row goes with itself
		last := g.rows - 1
		data, scale = s.row(g.first+last, c, r.cols)
		a.panel, a.w, a.scale = unsafe.Pointer(&g.panel[last*pairsPanelStride]), &data[0], unsafe.SliceData(scale)
		a.rows, a.rowStride, a.scaleStride = 1, 0, 0
		r.level.decodePairs[s.format](a)
	}
	return a.special == 0
}

// share returns how many rows of x, with the row that one without another stands for, are
// multiplied at once from the i-th on.
func (g *pairsGroup) share(i int) int {
	if g.r.level.matrix == nil {
		return evenShare(g.n-i, maxPanelX)
	}
	return g.together * evenShare(ceilDiv(g.n-i, g.together), maxMatrixX)
}

// product returns what multiplies that many.
func (g *pairsGroup) product(n int) func(*productPairsArgs) {
	if g.r.level.matrix == nil {
		return g.r.level.productPairs[n]
	}
	return g.r.level.matrix.product[n/2]
}

// sumsOf returns where the sums of a row of x begin, the first of those at once.
func (g *pairsGroup) sumsOf(i int) int {
	if g.r.level.matrix == nil {
		return pairsPanelRows * i * g.r.level.lanes
	}
	return pairsPanelRows * i
}

// total adds up what belongs to the same result:
//
//	rows of x   first …                   next …
//	totals      [pairsPanelRows] [rows]   [pairsPanelRows] [rows]
func (g *pairsGroup) total(totals []float32) {
	if g.r.level.matrix == nil {
		g.r.level.sumLanes(&sumLanesArgs{sums: &g.sums[0], y: &totals[0], n: pairsPanelRows * g.n})
		return
	}
	for first, n := 0, 0; first < g.n; first += n {
		n = g.share(first)
		sums, to := g.sums[g.sumsOf(first):], totals[pairsPanelRows*first:][:pairsPanelRows*n]
		for j := 0; j < pairsPanelRows; j += 2 {
			upper, lower := to[j*n:][:n], to[(j+1)*n:][:n]
			for i := 0; i < n; i += 2 {
				copy(upper[i:], sums[:2])
				copy(lower[i:], sums[2:4])
				sums = sums[4:]
			}
		}
	}
}

// ahead returns the address of the panel after the one at column c.
func (g *pairsGroup) ahead(c, whole int) uintptr {
	row, c := g.first, c+pairsPanelColumns
	if c >= whole {
		row, c = row+pairsPanelRows, 0
	}
	return uintptr(unsafe.Pointer(&g.s.data[0])) + uintptr(row*g.s.rowStride) + uintptr(g.s.format.rowBytes(c))
}

// store writes the results, and reports whether none is NaN.
func (g *pairsGroup) store(y []float32, yStride int, totals []float32) bool {
	zero := float32(0)
	for first, n := 0, 0; first < g.n; first += n {
		n = g.share(first)
		of := totals[pairsPanelRows*first:][:pairsPanelRows*n]
		for i := range min(n, g.n-first) {
			out := y[(first+i)*yStride:][:g.rows]
			for j := range out {
				v := of[j*n+i]
				out[j] = v
				zero += v * 0 // NaN of what is infinite, too
			}
		}
	}
	if zero == zero {
		return true
	}
	for i := range g.n {
		if containsNaN(y[i*yStride:][:g.rows]) {
			return false
		}
	}
	return true
}
