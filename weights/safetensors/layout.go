package safetensors

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
)

// sizeOf returns the bytes that dtype and shape ask for, or the rule that they break.
func sizeOf(dtype Dtype, shape []int) (int64, ruleText) {
	if slices.Contains(shape, 0) {
		return 0, ""
	}
	elements := uint64(1)
	for _, d := range shape {
		high, low := bits.Mul64(elements, uint64(d))
		if high != 0 || low > math.MaxInt64 {
			return 0, ruleSizeOverflow
		}
		elements = low
	}
	high, n := bits.Mul64(elements, uint64(dtype.Bits()))
	switch {
	case high != 0 || n > math.MaxInt64:
		return 0, ruleSizeOverflow
	case n%8 != 0:
		return 0, rulePartialByte
	}
	return int64(n / 8), ""
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
		report := func(rule ruleText, got, want string) {
			bad.add(&FormatError{Tensor: e.name, Rule: rule, Got: got, Want: want})
		}
		if e.begin != covered {
			rule := ruleHole
			if e.begin < covered {
				rule = ruleOverlap
			}
			report(rule, fmt.Sprintf("begin %d", e.begin), strconv.FormatInt(covered, 10))
		}
		covered = max(covered, e.end)
		size, rule := sizeOf(e.dtype, e.shape)
		if rule != "" {
			report(rule, fmt.Sprintf("%v of shape %v", e.dtype, e.shape), "")
		} else if size != e.end-e.begin {
			report(ruleSizeMismatch, byteCount(e.end-e.begin),
				fmt.Sprintf("%s for %v of shape %v", byteCount(size), e.dtype, e.shape))
		}
		if beyond == nil && e.end > dataSize {
			beyond = e
		}
	}
	switch got, want := byteCount(dataSize)+" of data", strconv.FormatInt(covered, 10); {
	case beyond != nil:
		bad.add(&FormatError{Tensor: beyond.name, Rule: ruleTruncated, Got: got, Want: want})
	case covered < dataSize:
		bad.add(&FormatError{Rule: ruleTrailingBytes, Got: got, Want: want})
	}
}
