package weights

import (
	"sort"

	"github.com/drafthead/drafthead/hip"
)

// Rows gives a kernel's Go side the rows of a [Matrix], through bounds-checked
// views of device memory: a row that the matrix does not have is an error of the
// launch. It belongs to the call that opened it.
type Rows struct {
	b        *hip.Blocks
	segments []Segment
	cols     int
	at       int       // segment of the row that was read last
	row      []float32 // scratch: one decoded row
}

// OpenRows opens the matrix whose n segments lie at table.
func OpenRows(b *hip.Blocks, table hip.Ptr, n, cols int) *Rows {
	return &Rows{b: b, segments: hip.In[Segment](b, table, n), cols: cols}
}

// encoded returns the stored bytes of one row.
func (r *Rows) encoded(row int) (f Format, data, scale []byte) {
	s := r.segmentOf(row)
	f = s.Format
	in := int64(row) - int64(s.First)
	if in < 0 || in >= int64(s.Rows) {
		panic(&hip.AccessError{Op: "row", Ptr: s.Data.Add(in * s.RowStride), Len: f.RowBytes(r.cols)})
	}
	data = hip.In[byte](r.b, s.Data.Add(in*s.RowStride), int(f.RowBytes(r.cols)))
	if f.Quantized() {
		_, n := f.ScaleShape(1, r.cols)
		at := (int64(s.ScaleRow) + in) / int64(formats[f].blockRows)
		scale = hip.In[byte](r.b, s.Scale.Add(at*s.ScaleStride), n*int(f.scaleBytes()))
	}
	return f, data, scale
}

// segmentOf finds the segment of a row, or one that does not hold it where none
// does. A matrix may have thousands, and rows are read one behind the other: it
// is nearly always the segment of the last row, or the next one.
func (r *Rows) segmentOf(row int) *Segment {
	for i := r.at; i < min(r.at+2, len(r.segments)); i++ {
		if s := &r.segments[i]; row >= int(s.First) && row-int(s.First) < int(s.Rows) {
			r.at = i
			return s
		}
	}
	r.at = max(sort.Search(len(r.segments), func(i int) bool { return int(r.segments[i].First) > row })-1, 0)
	return &r.segments[r.at]
}

// Decode writes the values of one row to dst, of cols values.
func (r *Rows) Decode(dst []float32, row int) {
	f, data, scale := r.encoded(row)
	f.Decode(dst[:r.cols], data, scale)
}

// Multiply64 is the definition of a product: for the count rows w from first
// and each of the n rows of x (n × cols),
//
//	y[i·yStride + j] = Σ_c w[first+j][c] · x[i][c]
//
// in float64, from the first column to the last, rounded once.
func (r *Rows) Multiply64(y []float32, yStride, first, count int, x []float32, n int) {
	w := r.decoded()
	for j := range count {
		r.Decode(w, first+j)
		for i := range n {
			sum := 0.0
			for c, v := range x[i*r.cols : (i+1)*r.cols] {
				sum += float64(w[c]) * float64(v)
			}
			y[i*yStride+j] = float32(sum)
		}
	}
}

// decoded returns scratch memory for one row.
func (r *Rows) decoded() []float32 {
	if r.row == nil {
		r.row = hip.Scratch[float32](r.b, r.cols)
	}
	return r.row
}
