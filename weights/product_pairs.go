package weights

import (
	"math"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// Products of pairs of bfloat16 are of weights that are exact in bfloat16, and of x as one or
// two bfloat16. The instruction takes subnormal numbers as zeros and makes no others;
// it rounds to the nearest, the two products of a pair one after the other. That of arm64
// adds the products of a pair, and then the sum, and rounds both to odd.

const (
	// fewPairs is the rows of x up to which weights are read as they are stored; more are
	// multiplied with panels of weights.
	fewPairs = 8
	// nearPairs is the rows of x for which a panel is decoded once.
	nearPairs = 96
)

// partsOf returns how many bfloat16 stand for a value of x; 0: none do. Three would be as
// good as float32, and slower than products in float32 for any number of rows: a Zen 4
// does at most two of these in the time of one of those.
func partsOf(a hip.Activations) int {
	switch a {
	case hip.ActivationsBF16:
		return 1
	case hip.ActivationsBF16x2:
		return 2
	}
	return 0
}

// usesPairs reports whether x is multiplied with rows of a format by pairs.
func (r *Rows) usesPairs(f Format) bool {
	return r.parts > 0 && r.level != nil && r.level.decodePairs[f] != nil && r.cols >= chunkColumns
}

// splitRows brings x into bfloat16, once for each format of the matrix that has a use for
// them: the columns of a chunk lie in the order in which the format's values are unpacked.
//
//	pairs   [rows][chunks][parts][chunkColumns] bfloat16
func (r *Rows) splitRows(o *operand) {
	chunks := r.cols / chunkColumns
	for i := range r.segments {
		f := r.segments[i].format
		inTiles := o.columns.tiles != nil && r.level.streamTiles[f][1] != nil
		if o.pairs[f] != nil || inTiles || !r.usesPairs(f) {
			continue
		}
		stride := chunks * chunkColumns * r.parts
		o.pairs[f] = scratch(r.b, &r.pairs[f], o.n*stride)
		for k := range o.n {
			r.level.split[f][r.parts](&splitArgs{x: &o.x[k*r.cols], to: &o.pairs[f][k*stride], chunks: chunks, step: 2 * chunkColumns * r.parts, another: 2 * chunkColumns})
		}
	}
}

// multiplyPairs multiplies rows of weights with x as bfloat16. Rows of which a result is
// NaN are left to multiplyPanels: an infinite weight times a part that is zero is one.
func (r *Rows) multiplyPairs(y []float32, yStride int, s *run, x *operand) {
	if x.n > fewPairs {
		r.multiplyPairsPanels(y, yStride, s, x)
		return
	}
	stride := r.cols / chunkColumns * chunkColumns * r.parts
	side := pairsRows
	if x.n == 1 && s.format.quantized() {
		side = 1
	}
	rows := s.rows / side * side
	totals := scratch(r.b, &r.totals, nearRows*maxPairs)
	for first := 0; first < rows; first += nearRows {
		n := min(nearRows, rows-first)
		data, scale := s.row(first, 0, r.cols)
		for i, count := 0, 0; i < x.n; i += count {
			count = evenShare(x.n-i, maxPairs)
			a := &r.calls.pairs
			*a = pairsArgs{
				w: &data[0], scale: unsafe.SliceData(scale), x: &x.pairs[s.format][i*stride], y: &totals[0],
				groups: n / side, chunks: r.cols / chunkColumns,
				rowStride: s.rowStride, scaleStride: s.scaleStride, xStride: 2 * stride,
			}
			r.level.pairs[s.format][r.parts][count](a)
			if hasNaN(totals[:n*count]) {
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
		}
	}
	if rows < s.rows {
		rest := s.slice(rows, s.rows-rows)
		r.multiplyPairsPanels(y[rows:], yStride, &rest, x)
	}
}

func hasNaN(values []float32) bool {
	sum := float32(0)
	for _, v := range values {
		sum += v * 0 // NaN of what is infinite, too
	}
	return sum != sum && containsNaN(values)
}

func containsNaN(values []float32) bool {
	for _, v := range values {
		if math.IsNaN(float64(v)) {
			return true
		}
	}
	return false
}

// multiplyPairsPanels decodes weights to bfloat16, some rows and columns at a time, and
// multiplies them with all rows of x while they are near: of a panel's columns the first
// parts of x, then the others. Rows with a value or scale for which that is not exact are
// left to multiplyPanels.
func (r *Rows) multiplyPairsPanels(y []float32, yStride int, s *run, x *operand) {
	most := pairsPanelRows * min(nearPairs, x.n)
	panel := scratch(r.b, &r.pairsPanel, pairsPanelRows*pairsPanelStride)
	sums, totals := scratch(r.b, &r.sums, most*r.level.lanes), scratch(r.b, &r.totals, most)
	for i := 0; i < x.n; i += nearPairs {
		n := min(nearPairs, x.n-i)
		for j := 0; j < s.rows; j += pairsPanelRows {
			rows := min(pairsPanelRows, s.rows-j)
			g := pairsGroup{r: r, s: s, first: j, rows: rows, x: x.pairs[s.format], firstX: i, n: n, panel: panel, sums: sums}
			if g.multiply() {
				r.level.sumLanes(&sumLanesArgs{sums: &sums[0], y: &totals[0], n: pairsPanelRows * n})
				if g.store(y[i*yStride+j:], yStride, totals) {
					continue
				}
			}
			rest, some := s.slice(j, rows), operand{x: x.x[i*r.cols : (i+n)*r.cols], n: n}
			r.multiplyPanels(y[i*yStride+j:], yStride, &rest, &some)
			sums, totals = scratch(r.b, &r.sums, most*r.level.lanes), scratch(r.b, &r.totals, most)
		}
	}
}

// pairsGroup is up to pairsPanelRows rows of weights and nearPairs rows of x. The sums are
// vectors, for up to maxPanelX rows of x at once:
//
//	rows of x    first …                   next …
//	vectors      [pairsPanelRows] [rows]   [pairsPanelRows] [rows]
type pairsGroup struct {
	r           *Rows
	s           *run
	first, rows int
	x           []uint16
	firstX, n   int
	panel       []uint16
	sums        []float32
}

// multiply returns false if the weights are not exact in bfloat16.
func (g *pairsGroup) multiply() bool {
	r, s := g.r, g.s
	whole := r.cols / chunkColumns * chunkColumns
	step := chunkColumns * r.parts
	stride := whole / chunkColumns * step
	decode, product := &r.calls.decode, &r.calls.productPairs
	for c := 0; c < whole; c += pairsPanelColumns {
		width := min(pairsPanelColumns, whole-c)
		data, scale := s.row(g.first, c, r.cols)
		*decode = decodeArgs{
			panel: unsafe.Pointer(&g.panel[0]), w: &data[0], scale: unsafe.SliceData(scale), next: g.ahead(c, whole),
			rows: g.rows, chunks: width / chunkColumns,
			panelStride: 2 * pairsPanelStride, rowStride: s.rowStride, scaleStride: s.scaleStride,
		}
		if r.level.decodePairs[s.format](decode); decode.special != 0 {
			return false
		}
		*product = productPairsArgs{panel: &g.panel[0], chunks: width / chunkColumns, xStride: 2 * stride, step: 2 * step}
		for i, n := 0, 0; i < g.n; i += n {
			n = evenShare(g.n-i, maxPanelX)
			product.sums = &g.sums[pairsPanelRows*i*r.level.lanes]
			product.first = 0
			if c == 0 {
				product.first = 1
			}
			at := (g.firstX+i)*stride + c/chunkColumns*step
			for p := range r.parts {
				product.x = &g.x[at+p*chunkColumns]
				r.level.productPairs[n](product)
				product.first = 0
			}
		}
	}
	return true
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
		n = evenShare(g.n-first, maxPanelX)
		of := totals[pairsPanelRows*first:][:pairsPanelRows*n]
		for i := range n {
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
