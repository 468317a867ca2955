package weights

import (
	"fmt"
	"sort"

	"github.com/drafthead/drafthead/hip"
)

// Select returns the matrix of some rows of m, in the order given. It copies no weights.
// Rows that follow each other share a segment, so a sorted list is the fastest to read. The
// memory of m's weights must outlive the result, which the caller frees. A row that m does
// not have is a [hip.InputError].
func (m *Matrix) Select(d hip.Device, rows []int32) (*Matrix, error) {
	var segments []Segment
	for at := 0; at < len(rows); {
		row := int(rows[at])
		if row < 0 || row >= m.Rows {
			return nil, &hip.InputError{Op: "weights: select", Field: fmt.Sprintf("rows[%d]", at), Got: row, Want: fmt.Sprintf("0 to %d", m.Rows-1)}
		}
		s := &m.segments[m.segmentOf(row)]
		first, n := row-int(s.first), 1
		for at+n < len(rows) && int(rows[at+n]) == row+n && first+n < int(s.rows) {
			n++
		}
		segments = append(segments, s.slice(first, n))
		at += n
	}
	return NewMatrix(d, m.Cols, segments)
}

// segmentOf returns the index of the segment that holds a row of the matrix.
func (m *Matrix) segmentOf(row int) int {
	return sort.Search(len(m.segments), func(i int) bool { return int(m.segments[i].first) > row }) - 1
}
