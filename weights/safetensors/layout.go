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

// checkLayout sorts the tensors by offset and checks that each has the size of its dtype and
// shape and that together they tile the data section. Those that are spared need not: where
// bytes of theirs are wrong, or missing, or given twice, they are left out, and so is what
// they may hide. None of their bytes may be another's.
func (h *header) checkLayout(dataSize int64, bad *problems) {
	slices.SortFunc(h.tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.size, b.size), cmp.Compare(a.Name, b.Name))
	})
	var covered, held int64 // end of the bytes that tensors so far hold; of those not spared
	var beyond *Tensor      // first tensor that the file does not hold whole
	spared := false         // the tensor that ends at covered is
	faulty := 0
	for i := range h.tensors {
		t := &h.tensors[i]
		begin, end, spare := t.offset, t.offset+t.size, bad.spares(t.Name)
		right := t.Dtype != "" && !h.repeated[t.Name]
		report := func(rule ruleText, note bool, got, want string) {
			problem := func() *FormatError { return &FormatError{Tensor: t.Name, Rule: rule, Got: got, Want: want} }
			if note {
				bad.note(problem)
			} else {
				bad.must(problem)
			}
		}
		switch {
		case begin > covered && !h.unplaced:
			report(ruleHole, spare || spared, fmt.Sprintf("begin %d", begin), strconv.FormatInt(covered, 10))
		case begin < covered:
			note := spare && begin >= held
			report(ruleOverlap, note, fmt.Sprintf("begin %d", begin), strconv.FormatInt(covered, 10))
			right = right && !note
		}
		if size, rule := sizeOf(t.Dtype, t.Shape); t.Dtype == "" { // reported already
		} else if rule != "" {
			right = false
			report(rule, spare, fmt.Sprintf("%v of shape %s", t.Dtype, shapeText(t.Shape)), "")
		} else if size != t.size {
			right = false
			report(ruleSizeMismatch, spare, byteCount(t.size), fmt.Sprintf("%s for %v of shape %s", byteCount(size), t.Dtype, shapeText(t.Shape)))
		}
		if end > dataSize {
			right = false
			if beyond == nil || !spare && bad.spares(beyond.Name) {
				beyond = t
			}
		}
		if end > covered || end == covered && !spare {
			covered, spared = end, spare
		}
		if !spare {
			held = max(held, end)
		}
		if !right {
			faulty++
			t.Dtype = ""
			h.leave(t.Name)
		}
	}
	switch got, want := byteCount(dataSize)+" of data", strconv.FormatInt(covered, 10); {
	case beyond != nil:
		bad.report(beyond.Name, func() *FormatError {
			return &FormatError{Tensor: beyond.Name, Rule: ruleTruncated, Got: got, Want: want}
		})
	case covered < dataSize && !h.unplaced:
		problem := func() *FormatError { return &FormatError{Rule: ruleTrailingBytes, Got: got, Want: want} }
		if spared {
			bad.note(problem)
		} else {
			bad.must(problem)
		}
	}
	if faulty > 0 {
		h.tensors = slices.DeleteFunc(h.tensors, func(t Tensor) bool { return t.Dtype == "" })
	}
}

// shapeText writes a shape for a message.
func shapeText(shape []int) string {
	return abbreviate(fmt.Sprint(shape[:min(len(shape), maxDimensions)]))
}
