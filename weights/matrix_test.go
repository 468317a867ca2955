package weights

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// TestSegmentLayout: kernels in C++ read the same struct.
func TestSegmentLayout(t *testing.T) {
	offsets := map[string]uintptr{
		"data": 0, "scale": 8, "rowStride": 16, "scaleStride": 24, "first": 32, "rows": 36, "format": 40, "scaleRow": 44, "global": 48,
	}
	segment := reflect.TypeFor[Segment]()
	require.Equal(t, len(offsets), segment.NumField())
	for i := range segment.NumField() {
		require.Equal(t, offsets[segment.Field(i).Name], segment.Field(i).Offset, segment.Field(i).Name)
	}
	require.Equal(t, uintptr(56), segment.Size())
}

func TestNewMatrixErrors(t *testing.T) {
	dense := func(change func(*Segment)) []Segment {
		s := DenseSegment(MXFP8, 3, 33, 4096, 8192)
		change(&s)
		return []Segment{DenseSegment(F32, 2, 33, 64, 0), s}
	}
	tests := []struct {
		name     string
		cols     int
		segments []Segment
		field    string
	}{
		{"no segments", 33, nil, "segments"},
		{"no columns", 0, dense(func(*Segment) {}), "cols"},
		{"negative columns", -1, dense(func(*Segment) {}), "cols"},
		{"more columns than an int32", math.MaxInt32 + 1, dense(func(*Segment) {}), "cols"},
		{"no format", 33, dense(func(s *Segment) { s.format = 0 }), "segments[1].format"},
		{"unknown format", 33, dense(func(s *Segment) { s.format = endFormat }), "segments[1].format"},
		{"no rows", 33, dense(func(s *Segment) { s.rows = 0 }), "segments[1].rows"},
		{"negative rows", 33, dense(func(s *Segment) { s.rows = -3 }), "segments[1].rows"},
		{"more rows than an int32", 33, dense(func(s *Segment) { s.rows = math.MaxInt32 }), "rows of all segments"},
		{"no weights", 33, dense(func(s *Segment) { s.data = 0 }), "segments[1].data"},
		{"no scales", 33, dense(func(s *Segment) { s.scale = 0 }), "segments[1].scale"},
		{"rows overlap", 33, dense(func(s *Segment) { s.rowStride = 32 }), "segments[1].rowStride"},
		{"rows run backwards", 33, dense(func(s *Segment) { s.rowStride = -33 }), "segments[1].rowStride"},
		{"scale rows overlap", 33, dense(func(s *Segment) { s.scaleStride = 1 }), "segments[1].scaleStride"},
		{"negative scale row", 33, dense(func(s *Segment) { s.scaleRow = -1 }), "segments[1].scaleRow"},
		{"scale row beyond its block", 33, dense(func(s *Segment) { s.scaleRow = 1 }), "segments[1].scaleRow"},
	}
	d := hip.NewReference()
	defer d.Close()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m, err := NewMatrix(d, test.cols, test.segments)
			require.Nil(t, m)
			require.ErrorIs(t, err, hip.ErrInput)
			var wrong *hip.InputError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, test.field, wrong.Field)
			require.Contains(t, err.Error(), test.field)
		})
	}
	_, live := hiptest.InUse(d)
	require.Zero(t, live)
}

func TestNewMatrixReportsAllTogether(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	_, err := NewMatrix(d, 64, []Segment{{format: FP8F32, rows: 1}, {rows: -1, data: 64}})
	var fields []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		fields = append(fields, e.(*hip.InputError).Field)
	}
	require.Equal(t, []string{
		"segments[0].data", "segments[0].rowStride", "segments[0].scale", "segments[0].scaleStride", "segments[1].rows", "segments[1].format",
	}, fields)
	require.ErrorContains(t, err, "weights: new matrix: segments[1].rows is -1, want at least 1")
}

func TestMatrix(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 1))
	d := hip.NewReference()
	defer d.Close()
	a := &arena{d: d}
	parts := []stored{newStored(r, BF16, 5, 40), newStored(r, MXFP8, 3, 40), newStored(r, FP8F32, 130, 40)}
	segments := []Segment{a.segment(parts[0], 0), a.segment(parts[1], 0), a.segment(parts[2], 0)}
	require.NoError(t, a.err)
	m, err := NewMatrix(d, 40, segments)
	require.NoError(t, err)
	require.Equal(t, 138, m.Rows)
	require.Equal(t, 40, m.Cols)
	require.Equal(t, []int32{0, 5, 8}, []int32{m.segments[0].first, m.segments[1].first, m.segments[2].first})
	require.Equal(t, int32(0), segments[1].first, "the caller's table is left alone")
	const bytes = 5*80 + 3*(40+2) + 130*40 + 2*4
	require.Equal(t, int64(bytes), m.Bytes())
	require.Equal(t, bytes/138, m.rowBytes())
	segments[2].scaleRow = 127 // one row of the first block of scales, and two blocks more
	cut, err := NewMatrix(d, 40, segments[2:])
	require.NoError(t, err)
	require.Equal(t, int64(130*40+3*4), cut.Bytes())
	table := make([]Segment, 3)
	require.NoError(t, hip.ReadOf(d, table, m.table))
	require.Equal(t, m.segments, table)
	require.NoError(t, m.Free(d))
	require.NoError(t, m.Free(d), "a second time")
	require.Zero(t, m.table)
	require.NoError(t, cut.Free(d))
	require.NoError(t, a.free())
	_, live := hiptest.InUse(d)
	require.Zero(t, live)
}

func TestNewMatrixWithoutMemory(t *testing.T) {
	d := hip.NewReference()
	require.NoError(t, d.Close())
	_, err := NewMatrix(d, 4, []Segment{DenseSegment(F32, 1, 4, 64, 0)})
	require.ErrorIs(t, err, hip.ErrClosed)
}

// TestProductErrors: what a product cannot do is an error, never a bad read.
func TestProductErrors(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for name, open := range map[string]func() hip.Device{
		"reference": hip.NewReference, "host": func() hip.Device { return hip.NewHost() }, "checked host": func() hip.Device { return hip.Check(hip.NewHost()) },
	} {
		t.Run(name, func(t *testing.T) {
			d := open()
			defer d.Close()
			a := &arena{d: d}
			s := newStored(r, MXFP8, 20, 40)
			segment := a.segment(s, 1)
			m, x, y := a.matrixOf(40, segment), a.floats(make([]float32, 80)), a.floats(make([]float32, 40))
			beyond := a.matrixOf(40, func() Segment { segment.rows++; return segment }())
			require.NoError(t, a.err)

			require.NoError(t, m.Product(d, y, x, 2))
			require.NoError(t, m.Product(d, 0, 0, 0), "no rows")
			for rows, err := range map[int]error{-1: m.Product(d, y, x, -1), math.MaxInt32 + 1: m.Product(d, y, x, math.MaxInt32+1)} {
				var wrong *hip.InputError
				require.ErrorAs(t, err, &wrong)
				require.Equal(t, rows, wrong.Got)
			}
			require.ErrorIs(t, m.Product(d, y, x, 3), hip.ErrAccess, "x and y are too small")
			require.ErrorIs(t, m.Product(d, y, x, math.MaxInt32), hip.ErrAccess)
			require.ErrorIs(t, m.Product(d, y, 0, 1), hip.ErrAccess, "no x")
			require.ErrorIs(t, m.Product(d, 0, x, 1), hip.ErrAccess, "no y")
			require.ErrorIs(t, m.Product(d, y, x.Add(2), 1), hip.ErrAccess, "x off alignment")
			require.ErrorIs(t, beyond.Product(d, y, x, 1), hip.ErrAccess, "a row beyond the allocation")
			require.NoError(t, d.Free(a.ptrs[1]))
			require.ErrorIs(t, m.Product(d, y, x, 1), hip.ErrAccess, "freed scales")
			require.NoError(t, m.Free(d))
			require.ErrorIs(t, m.Product(d, y, x, 1), hip.ErrAccess, "freed matrix")
		})
	}
}
