package weights

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Segment is a run of rows of a [Matrix] in device memory: see [DenseSegment].
type Segment struct {
	// Kernels read it in device memory, so the layout is the same in Go and C++.
	//
	//	row r of the segment      data  + r · rowStride
	//	its scales                scale + (scaleRow + r) / blockRows · scaleStride
	//
	// data and scale need no alignment.
	data, scale            hip.Ptr
	rowStride, scaleStride int64 // bytes from row to row, from scale row to scale row
	first                  int32 // row of the matrix with which the segment begins
	rows                   int32
	format                 Format
	scaleRow               int32 // rows of its first scale block that lie before the segment
	global                       // of NVFP4
}

// Matrix is rows × cols weights in device memory, the operand of a product. A parameter
// that was stacked from several tensors (qkv_proj, gate_up_proj, experts) has a segment for
// each, perhaps of different formats:
//
//	   cols
//	┌────────┐ 0
//	│   q    │         MXFP8, in place in the mapped file
//	├────────┤ first row of k
//	│   k    │         MXFP8, elsewhere in the file
//	├────────┤ first row of index
//	│ index  │         BF16, in another file
//	└────────┘ Rows
//
// A Matrix owns its table of segments, but the memory of its weights only if
// [Matrix.Requantize] made it. Its weights never change: several goroutines may use
// it until Free, and a product may read them before launches that were queued before it end.
type Matrix struct {
	Rows, Cols int

	segments []Segment
	table    hip.Ptr   // segments in device memory
	owned    []hip.Ptr // weights that are its own
	bytes    int64     // of weights and scales: there may be thousands of segments
}

// NewMatrix makes a matrix of weights that lie in d's memory. The segments are in the order
// of their rows. The error joins a [hip.InputError] for everything that is wrong with them.
func NewMatrix(d hip.Device, cols int, segments []Segment) (*Matrix, error) {
	m := &Matrix{Cols: cols, segments: slices.Clone(segments)}
	if err := m.check(); err != nil {
		return nil, err
	}
	for i := range m.segments {
		m.segments[i].first = int32(m.Rows)
		m.Rows += int(m.segments[i].rows)
		m.bytes += m.segments[i].bytes(cols)
	}
	table, err := hip.Upload(d, m.segments)
	if err != nil {
		return nil, err
	}
	m.table = table
	return m, nil
}

// check returns all that is wrong with the segments. Kernels count rows and columns in an
// int32.
func (m *Matrix) check() error {
	var problems []error
	refuse := func(bad bool, field string, got any, want string) {
		if bad {
			problems = append(problems, &hip.InputError{Op: "weights: new matrix", Field: field, Got: got, Want: want})
		}
	}
	refuse(len(m.segments) == 0, "segments", "empty", "at least one")
	refuse(m.Cols < 1 || m.Cols > math.MaxInt32, "cols", m.Cols, "1 to 2^31-1")
	if problems != nil {
		return errors.Join(problems...)
	}
	rows := int64(0)
	for i := range m.segments {
		s := &m.segments[i]
		rows += int64(s.rows)
		of := func(field string) string { return fmt.Sprintf("segments[%d].%s", i, field) }
		refuse(s.rows < 1, of("rows"), s.rows, "at least 1")
		refuse(s.data == 0, of("data"), "missing", "the weights")
		refuse(!s.format.valid(), of("format"), s.format, "a format")
		if !s.format.valid() {
			continue
		}
		stride := s.format.rowBytes(m.Cols)
		refuse(s.format == NVFP4 && !s.global.valid(), of("global"), s.global, "positive finite numbers")
		refuse(s.rowStride < stride, of("rowStride"), s.rowStride, fmt.Sprintf("at least %d bytes", stride))
		if !s.format.quantized() {
			continue
		}
		block := formats[s.format].blockRows
		stride = s.format.scaleRowBytes(m.Cols)
		refuse(s.scale == 0, of("scale"), "missing", "the scales")
		refuse(s.scaleStride < stride, of("scaleStride"), s.scaleStride, fmt.Sprintf("at least %d bytes", stride))
		refuse(s.scaleRow < 0 || int(s.scaleRow) >= block, of("scaleRow"), s.scaleRow, fmt.Sprintf("0 to %d", block-1))
	}
	refuse(rows > math.MaxInt32, "rows of all segments", rows, "at most 2^31-1")
	return errors.Join(problems...)
}

// DenseSegment describes rows × cols weights stored without gaps at data, with
// their scales, if the format has any, at scale.
func DenseSegment(f Format, rows, cols int, data, scale hip.Ptr) Segment {
	s := Segment{data: data, scale: scale, rowStride: f.rowBytes(cols), rows: int32(rows), format: f, global: one}
	if f.quantized() {
		s.scaleStride = f.scaleRowBytes(cols)
	}
	return s
}

// Free frees the table of segments, and the weights if m owns them. Products with m then
// fail. What the device could not free, which is the error then, a second Free frees.
func (m *Matrix) Free(d hip.Device) error {
	err := d.Free(m.table)
	if err == nil {
		m.table = 0
	}
	return errors.Join(err, freeAll(d, &m.owned))
}

// Table returns the address of the segments in device memory and their number, for the
// arguments of a kernel whose Go side opens them with [OpenRows].
func (m *Matrix) Table() (segments hip.Ptr, n int32) { return m.table, int32(len(m.segments)) }

// rowBytes returns roughly the bytes of one row with its scales.
func (m *Matrix) rowBytes() int { return int(m.bytes / int64(m.Rows)) }

// Bytes returns how many bytes a product has to read: weights and scales.
func (m *Matrix) Bytes() int64 { return m.bytes }

// Formats returns the formats of the weights, each once, in the order of rows.
func (m *Matrix) Formats() []Format {
	var formats []Format
	for i := range m.segments {
		if f := m.segments[i].format; !slices.Contains(formats, f) {
			formats = append(formats, f)
		}
	}
	return formats
}

// Stretch returns the longest stretch of device memory, n bytes from p on, in which rows of
// weights are contiguous, for measuring how fast it can be read.
func (m *Matrix) Stretch() (p hip.Ptr, n int64) {
	for i := range m.segments {
		// The last row may end before its stride does.
		s := &m.segments[i]
		if bytes := int64(s.rows-1)*s.rowStride + s.format.rowBytes(m.Cols); bytes > n {
			p, n = s.data, bytes
		}
	}
	return p, n
}

func (s *Segment) bytes(cols int) int64 {
	total := int64(s.rows) * s.format.rowBytes(cols)
	if s.format.quantized() {
		rows := s.scaleRows(0, int(s.rows))
		total += int64(rows.Len()) * s.format.scaleRowBytes(cols)
	}
	return total
}

// scaleRows returns the rows of scales, counted from scale, that n rows of the segment from
// first on need.
func (s *Segment) scaleRows(first, n int) interval {
	first += int(s.scaleRow)
	return s.format.scaleRows(interval{first, first + n})
}

// slice returns n rows of the segment from first on as a segment, in place.
func (s *Segment) slice(first, n int) Segment {
	part := *s
	part.rows = int32(n)
	part.data = s.data.Add(int64(first) * s.rowStride)
	if s.format.quantized() {
		part.scale = s.scale.Add(int64(s.scaleRows(first, n)[0]) * s.scaleStride)
		part.scaleRow = int32((int(s.scaleRow) + first) % formats[s.format].blockRows)
	}
	return part
}
