package weights

import (
	"fmt"
	"slices"
	"sort"

	"github.com/drafthead/drafthead/hip"
)

// Rows gives a kernel's Go side the rows of a [Matrix], through bounds-checked views of
// device memory: a row that the matrix does not have is an error of the launch. It is valid
// during the call that opened it.
type Rows struct {
	b        *hip.Blocks
	segments []Segment
	cols     int
	at       int // segment of the row that was read last
	level    *vectorLevel
	exact    bool
	parts    int        // bfloat16 that stand for a value of x in products of pairs
	x        *operand   // what Multiply multiplies with
	picked   []*operand // see Use

	// Scratch that one call after the other uses.
	row          []float32 // one decoded row
	panels       []float32
	sums, totals []float32
	tileSums     []float32
	halves       []uint16
	tilePanel    []uint16
	pairsPanel   []uint16
	evenOddOnce  []float32
	gathered     []float32
	calls        calls
}

// calls is arguments of functions that are called through tables: on the stack they would
// be allocated once more for each call.
type calls struct {
	dots         dotsArgs
	decode       decodeArgs
	product      productPanelArgs
	pairs        pairsArgs
	productPairs productPairsArgs
	digits       dotDigitsArgs
	decodeTiles  decodeTilesArgs
	tiles        multiplyTilesArgs
}

// OpenRows opens the matrix whose n segments lie at table; [Matrix.Table] returns both.
// exact makes Multiply the definition of a product, for the twins of kernels.
func OpenRows(b *hip.Blocks, table hip.Ptr, n, cols int, exact bool) *Rows {
	return &Rows{b: b, segments: hip.In[Segment](b, table, n), cols: cols, level: vectorsOf(b.SIMD()), exact: exact, parts: partsOf(b.Activations())}
}

// has reports whether some rows are stored in a format.
func (r *Rows) has(f Format) bool {
	return slices.ContainsFunc(r.segments, func(s Segment) bool { return s.format == f })
}

// run is stored rows of one segment, in their order.
type run struct {
	format                 Format
	rows                   int
	data, scale            []byte
	rowStride, scaleStride int // 0: the rows share their scales
	of                     global
}

// row returns the stored bytes of one row of a matrix with cols columns, from
// column first on, where a scale begins.
func (s *run) row(i, first, cols int) (data, scale []byte) {
	data = s.data[i*s.rowStride:][s.format.rowBytes(first):s.format.rowBytes(cols)]
	if s.format.quantized() {
		scale = s.scale[i*s.scaleStride+first/formats[s.format].blockCols*int(s.format.scaleBytes()):]
	}
	return data, scale
}

// stored returns contiguous rows from first on, at least one and at most count.
func (r *Rows) stored(first, count int) run {
	s := r.segmentOf(first)
	bytes := s.format.rowBytes(r.cols)
	in := int64(first) - int64(s.first)
	if in < 0 || in >= int64(s.rows) {
		panic(&outsideError{fmt.Sprintf("row of %d bytes at %#x", bytes, uint64(s.data.Add(in*s.rowStride)))})
	}
	n := min(int64(count), int64(s.rows)-in)
	if block := formats[s.format].blockRows; block > 1 { // rows of one scale
		n = min(n, int64(block)-(int64(s.scaleRow)+in)%int64(block))
	}
	out := run{format: s.format, rows: int(n), rowStride: int(s.rowStride), of: one}
	if s.format == NVFP4 {
		out.of = s.global
	}
	out.data = hip.In[byte](r.b, s.data.Add(in*s.rowStride), int((n-1)*s.rowStride+bytes))
	if !s.format.quantized() {
		return out
	}
	_, scales := s.format.scaleShape(1, r.cols)
	last := int64(0) // row of scales, from the first one's
	if formats[s.format].blockRows == 1 {
		last, out.scaleStride = n-1, int(s.scaleStride)
	}
	at := (int64(s.scaleRow) + in) / int64(formats[s.format].blockRows)
	out.scale = hip.In[byte](r.b, s.scale.Add(at*s.scaleStride), int(last*s.scaleStride+int64(scales)*s.format.scaleBytes()))
	return out
}

// outsideError is a row that a matrix does not have, found by a kernel.
type outsideError struct{ row string }

func (e *outsideError) Error() string { return "weights: " + e.Bare() }
func (e *outsideError) Unwrap() error { return hip.ErrAccess }

// Bare is the text without a package's name, as the error of a launch has it.
func (e *outsideError) Bare() string { return e.row + " is not in the matrix" }

// segmentOf finds the segment of a row, or one that does not hold it where none does. A
// matrix may have thousands, and rows are read in order, so it is nearly always the segment
// of the last row, or the next one.
func (r *Rows) segmentOf(row int) *Segment {
	for i := r.at; i < min(r.at+2, len(r.segments)); i++ {
		if s := &r.segments[i]; row >= int(s.first) && row-int(s.first) < int(s.rows) {
			r.at = i
			return s
		}
	}
	r.at = max(sort.Search(len(r.segments), func(i int) bool { return int(r.segments[i].first) > row })-1, 0)
	return &r.segments[r.at]
}

// Decode writes the values of one row to dst, of cols values.
func (r *Rows) Decode(dst []float32, row int) {
	s := r.stored(row, 1)
	data, scale := s.row(0, 0, r.cols)
	s.format.Decode(dst[:r.cols], data, scale)
	s.of.scale(dst[:r.cols])
}

// decoded returns scratch memory for one row.
func (r *Rows) decoded() []float32 { return scratch(r.b, &r.row, r.cols) }

// scratch returns n values in buf, which it makes larger where it has to.
func scratch[T any](b *hip.Blocks, buf *[]T, n int) []T {
	if n > len(*buf) {
		*buf = hip.Scratch[T](b, n)
	}
	return (*buf)[:n]
}
