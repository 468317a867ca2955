package weights

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Segment is a run of rows of a [Matrix] as it lies in device memory. Kernels
// read it there, so the layout is the same in Go and C++.
//
//	row r of the segment      Data  + r · RowStride
//	its scales                Scale + (ScaleRow + r) / blockRows · ScaleStride
//
// Data and Scale need no alignment.
type Segment struct {
	Data, Scale            hip.Ptr
	RowStride, ScaleStride int64 // bytes from row to row, from scale row to scale row
	First                  int32 // row of the matrix with which the segment begins
	Rows                   int32
	Format                 Format
	ScaleRow               int32 // rows of its first scale block that lie before the segment
}

// Matrix is what a product takes: rows × cols weights in device memory. A
// parameter that was stacked from several tensors (qkv_proj, gate_up_proj,
// experts) has a segment for each, perhaps of different formats:
//
//	   cols
//	┌────────┐ 0
//	│   q    │         MXFP8, in place in the mapped file
//	├────────┤ First
//	│   k    │         MXFP8, elsewhere in the file
//	├────────┤ First
//	│ index  │         BF16, in another file
//	└────────┘ Rows
//
// A Matrix does not own the memory of its weights, only its table of segments.
// It is immutable and safe for concurrent use until Free.
type Matrix struct {
	Rows, Cols int
	Segments   []Segment

	table hip.Ptr // Segments in device memory
}

// ErrMatrix is a matrix whose segments do not fit it.
var ErrMatrix = errors.New("invalid matrix")

// NewMatrix makes a matrix of weights that lie in d's memory. The segments are
// in the order of their rows; First is set here.
func NewMatrix(d hip.Device, cols int, segments []Segment) (*Matrix, error) {
	m := &Matrix{Cols: cols, Segments: append([]Segment(nil), segments...)}
	for i := range m.Segments {
		s := &m.Segments[i]
		switch {
		case !s.Format.Valid():
			return nil, fmt.Errorf("%w: segment %d: format %v", ErrMatrix, i, s.Format)
		case s.Rows < 1 || cols < 1 || int(s.Rows) > 1<<31-1-m.Rows:
			return nil, fmt.Errorf("%w: segment %d: %d rows of %d columns", ErrMatrix, i, s.Rows, cols)
		case s.Data == 0 || s.Format.Quantized() && s.Scale == 0:
			return nil, fmt.Errorf("%w: segment %d: no memory", ErrMatrix, i)
		case s.RowStride < s.Format.RowBytes(cols):
			return nil, fmt.Errorf("%w: segment %d: %d bytes from row to row, want at least %d",
				ErrMatrix, i, s.RowStride, s.Format.RowBytes(cols))
		}
		s.First = int32(m.Rows)
		m.Rows += int(s.Rows)
	}
	if m.Rows == 0 {
		return nil, fmt.Errorf("%w: no segments", ErrMatrix)
	}
	table, err := hip.Upload(d, m.Segments)
	if err != nil {
		return nil, err
	}
	m.table = table
	return m, nil
}

// DenseSegment describes rows × cols weights stored without gaps at data, with
// their scales, if the format has any, at scale.
func DenseSegment(f Format, rows, cols int, data, scale hip.Ptr) Segment {
	s := Segment{Data: data, Scale: scale, RowStride: f.RowBytes(cols), Rows: int32(rows), Format: f}
	if f.Quantized() {
		_, scaleCols := f.ScaleShape(rows, cols)
		s.ScaleStride = int64(scaleCols) * f.scaleBytes()
	}
	return s
}

// Free gives the table of segments back.
func (m *Matrix) Free(d hip.Device) error {
	table := m.table
	m.table = 0
	return d.Free(table)
}

// Table returns the segments in device memory, for the arguments of a kernel
// that opens them with [OpenRows].
func (m *Matrix) Table() hip.Ptr { return m.table }

// RowBytes returns about the bytes of one row with its scales, for
// [hip.Grid.BlockCost].
func (m *Matrix) RowBytes() int { return int(m.Bytes() / int64(m.Rows)) }

// Bytes returns the bytes that a product has to read: weights and scales.
func (m *Matrix) Bytes() int64 {
	total := int64(0)
	for i := range m.Segments {
		s := &m.Segments[i]
		total += int64(s.Rows) * s.Format.RowBytes(m.Cols)
		if s.Format.Quantized() {
			r, c := s.Format.ScaleShape(int(s.Rows), m.Cols)
			total += int64(r) * int64(c) * s.Format.scaleBytes()
		}
	}
	return total
}
