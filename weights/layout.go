package weights

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// size returns the bytes that dtype and shape ask for.
func (e *entry) size() (int64, error) {
	elements, empty := uint64(1), false
	for _, d := range e.shape {
		// A zero does not excuse the other dimensions: whoever multiplies some
		// of them, to get rows or strides, cannot overflow either.
		if d == 0 {
			empty = true
			continue
		}
		high, low := bits.Mul64(elements, uint64(d))
		if high != 0 || low > math.MaxInt64 {
			return 0, ErrSizeOverflow
		}
		elements = low
	}
	high, n := bits.Mul64(elements, uint64(e.dtype.Bits()))
	switch {
	case high != 0 || n > math.MaxInt64:
		return 0, ErrSizeOverflow
	case empty:
		return 0, nil
	case n%8 != 0:
		return 0, ErrPartialByte
	}
	return int64(n / 8), nil
}

// checkLayout sorts the entries by offset and checks that each has the size of
// its dtype and shape and that together they tile the data section.
func (h *header) checkLayout(dataSize int64, bad *problems) {
	slices.SortFunc(h.entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.name, b.name))
	})
	var covered int64 // end of the bytes that tensors so far hold
	var beyond *entry // first tensor that the file does not hold whole
	for i := range h.entries {
		e := &h.entries[i]
		report := func(err error, got, want string) {
			bad.add(&FormatError{Tensor: e.name, Err: err, Got: got, Want: want})
		}
		if e.begin != covered {
			err := ErrHole
			if e.begin < covered {
				err = ErrOverlap
			}
			report(err, fmt.Sprintf("begin %d", e.begin), strconv.FormatInt(covered, 10))
		}
		covered = max(covered, e.end)
		size, err := e.size()
		if err != nil {
			report(err, fmt.Sprintf("%v of shape %v", e.dtype, e.shape), "")
		} else if size != e.end-e.begin {
			report(ErrSizeMismatch, byteCount(e.end-e.begin),
				fmt.Sprintf("%s for %v of shape %v", byteCount(size), e.dtype, e.shape))
		}
		if beyond == nil && e.end > dataSize {
			beyond = e
		}
	}
	switch got, want := byteCount(dataSize)+" of data", strconv.FormatInt(covered, 10); {
	case beyond != nil:
		bad.add(&FormatError{Tensor: beyond.name, Err: ErrTruncated, Got: got, Want: want})
	case covered < dataSize:
		bad.add(&FormatError{Err: ErrTrailingBytes, Got: got, Want: want})
	}
}

func byteCount(n int64) string { return strconv.FormatInt(n, 10) + " bytes" }
