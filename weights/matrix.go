package weights

import (
	"errors"
	"fmt"
	"math"
	"slices"

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
// A Matrix does not own the memory of its weights, only its table of segments,
// unless it is one that [Matrix.Requantize] made. It is immutable and safe for
// concurrent use until Free.
type Matrix struct {
	Rows, Cols int
	Segments   []Segment

	table hip.Ptr   // Segments in device memory
	owned []hip.Ptr // weights that are its own
	bytes int64     // of weights and scales: there may be thousands of segments
}

// ErrMatrix is a matrix whose segments do not fit it, or that is used wrongly.
var ErrMatrix = errors.New("invalid matrix")

// MatrixError names what is wrong with a matrix. It wraps [ErrMatrix].
type MatrixError struct {
	Segment int    // −1: the matrix as a whole
	Field   string // "RowStride", ...
	Got     any
	Want    string
}

func (e *MatrixError) Error() string {
	where := ErrMatrix.Error()
	if e.Segment >= 0 {
		where += fmt.Sprintf(": segment %d", e.Segment)
	}
	return fmt.Sprintf("%s: %s is %v, want %s", where, e.Field, e.Got, e.Want)
}

func (e *MatrixError) Unwrap() error { return ErrMatrix }

// NewMatrix makes a matrix of weights that lie in d's memory. The segments are
// in the order of their rows; First is set here. Everything that is wrong with
// them is reported together, as [MatrixError]s.
func NewMatrix(d hip.Device, cols int, segments []Segment) (*Matrix, error) {
	m := &Matrix{Cols: cols, Segments: slices.Clone(segments)}
	if err := m.check(); err != nil {
		return nil, err
	}
	for i := range m.Segments {
		m.Segments[i].First = int32(m.Rows)
		m.Rows += int(m.Segments[i].Rows)
		m.bytes += m.Segments[i].bytes(cols)
	}
	table, err := hip.Upload(d, m.Segments)
	if err != nil {
		return nil, err
	}
	m.table = table
	return m, nil
}

// check reports all that is wrong with the segments. Rows and columns are counted
// in an int32 by the kernels.
func (m *Matrix) check() error {
	var problems []error
	refuse := func(bad bool, segment int, field string, got any, want string) {
		if bad {
			problems = append(problems, &MatrixError{segment, field, got, want})
		}
	}
	refuse(len(m.Segments) == 0, -1, "Segments", "empty", "at least one")
	refuse(m.Cols < 1 || m.Cols > math.MaxInt32, -1, "Cols", m.Cols, "1 to 2^31-1")
	if problems != nil {
		return errors.Join(problems...)
	}
	rows := int64(0)
	for i := range m.Segments {
		s := &m.Segments[i]
		rows += int64(s.Rows)
		refuse(s.Rows < 1, i, "Rows", s.Rows, "at least 1")
		refuse(s.Data == 0, i, "Data", "no memory", "the weights")
		refuse(!s.Format.Valid(), i, "Format", s.Format, "a format")
		if !s.Format.Valid() {
			continue
		}
		stride := s.Format.RowBytes(m.Cols)
		refuse(s.RowStride < stride, i, "RowStride", s.RowStride, fmt.Sprintf("at least %d bytes", stride))
		if !s.Format.Quantized() {
			continue
		}
		block := formats[s.Format].blockRows
		stride = s.Format.scaleRowBytes(m.Cols)
		refuse(s.Scale == 0, i, "Scale", "no memory", "the scales")
		refuse(s.ScaleStride < stride, i, "ScaleStride", s.ScaleStride, fmt.Sprintf("at least %d bytes", stride))
		refuse(s.ScaleRow < 0 || int(s.ScaleRow) >= block, i, "ScaleRow", s.ScaleRow, fmt.Sprintf("0 to %d", block-1))
	}
	refuse(rows > math.MaxInt32, -1, "rows of all segments", rows, "at most 2^31-1")
	return errors.Join(problems...)
}

// DenseSegment describes rows × cols weights stored without gaps at data, with
// their scales, if the format has any, at scale.
func DenseSegment(f Format, rows, cols int, data, scale hip.Ptr) Segment {
	s := Segment{Data: data, Scale: scale, RowStride: f.RowBytes(cols), Rows: int32(rows), Format: f}
	if f.Quantized() {
		s.ScaleStride = f.scaleRowBytes(cols)
	}
	return s
}

// Free gives the table of segments back, and the weights if they are m's own.
// Products with m then fail.
func (m *Matrix) Free(d hip.Device) error {
	errs := []error{d.Free(m.table)}
	for _, p := range m.owned {
		errs = append(errs, d.Free(p))
	}
	m.table, m.owned = 0, nil
	return errors.Join(errs...)
}

// Table returns the segments in device memory and how many they are, for the arguments
// of a kernel whose Go side opens them with [OpenRows].
func (m *Matrix) Table() (segments hip.Ptr, n int32) { return m.table, int32(len(m.Segments)) }

// rowBytes returns about the bytes of one row with its scales.
func (m *Matrix) rowBytes() int { return int(m.bytes / int64(m.Rows)) }

// Bytes returns the bytes that a product has to read: weights and scales.
func (m *Matrix) Bytes() int64 { return m.bytes }

func (s *Segment) bytes(cols int) int64 {
	total := int64(s.Rows) * s.Format.RowBytes(cols)
	if s.Format.Quantized() {
		rows := s.scaleRows(0, int(s.Rows))
		total += int64(rows.Len()) * s.Format.scaleRowBytes(cols)
	}
	return total
}

// scaleRows returns the rows of scales, counted from Scale, that n rows of the
// segment from first on need.
func (s *Segment) scaleRows(first, n int) Range {
	first += int(s.ScaleRow)
	return s.Format.scaleRows(Range{first, first + n})
}

// slice returns n rows of the segment from first on as a segment, in place.
func (s *Segment) slice(first, n int) Segment {
	part := *s
	part.Rows = int32(n)
	part.Data = s.Data.Add(int64(first) * s.RowStride)
	if s.Format.Quantized() {
		part.Scale = s.Scale.Add(int64(s.scaleRows(first, n).First) * s.ScaleStride)
		part.ScaleRow = int32((int(s.ScaleRow) + first) % formats[s.Format].blockRows)
	}
	return part
}
