package weights

const (
	// digitColumns is the columns that dotDigits takes at a time, digitBytes what packDigits
	// makes of as many columns of x.
	digitColumns = 256
	digitBytes   = 896

	// digitRows is the rows of x up to which that is faster than to decode the weights to
	// float32, and nearDigits the rows of weights that meet all of them before the next ones.
	digitRows  = 16
	nearDigits = 64
)

// useDigits reports whether n rows of x are multiplied as integers with a part of the matrix.
func (r *Rows) useDigits(n int) bool {
	if n > digitRows || r.cols < digitColumns || r.level == nil {
		return false
	}
	for i := range r.segments {
		if r.level.digits[r.segments[i].format] != nil {
			return true
		}
	}
	return false
}

// packDigits makes integers of row i: 16 columns have a power of two in common, of which
// they are multiples, rounded to at most 2^23, about as the largest of them is rounded to a
// float32. A row with values for which that will not do becomes nil.
func (r *Rows) packDigits(o *operand, i int, row []float32) {
	a := packDigitsArgs{x: &row[0], digits: &o.digits[i][0], groups: r.cols / digitColumns}
	if packDigits(&a); a.special != 0 {
		o.digits[i] = nil
	}
}

// multiplyDigits multiplies rows of x, one after the other, with rows of four-bit codes,
// which are integers too but for their scales. Columns after the last group, and rows of x
// without digits, are multiplied as one row of other formats is.
func (r *Rows) multiplyDigits(y []float32, yStride int, s *run, x *operand) {
	for first := 0; first < s.rows; first += nearDigits {
		near := *s
		if x.n > 1 {
			near = s.slice(first, min(nearDigits, s.rows-first))
		}
		for i := range x.n {
			one := operand{x: x.x[i*r.cols:][:r.cols], n: 1}
			if out := y[i*yStride+first:]; x.digits[i] != nil {
				r.multiplyDigitRow(out, &near, &one, x.digits[i])
			} else {
				r.multiplyRow(out, &near, &one)
			}
		}
		if x.n == 1 {
			return
		}
	}
}

// multiplyDigitRow multiplies a row of x. Three runs of the rows of weights are read beside
// each other; what does not divide by three is in two of them.
func (r *Rows) multiplyDigitRow(y []float32, s *run, x *operand, digits []byte) {
	groups := r.cols / digitColumns
	rows := ceilDiv(s.rows, 3)
	third := s.rows - rows
	second := min(rows, third)
	r.calls.digits = dotDigitsArgs{
		w: &s.data[0], scale: &s.scale[0], digits: &digits[0], y: &y[0],
		rows: rows, groups: groups, rowStride: s.rowStride, scaleStride: s.scaleStride,
		second: second * s.rowStride, secondScale: second * s.scaleStride, secondY: second * 4,
		third: third * s.rowStride, thirdScale: third * s.scaleStride, thirdY: third * 4,
	}
	r.level.digits[s.format](&r.calls.digits)
	first, whole := groups*digitColumns, r.cols/chunkColumns*chunkColumns
	if first == whole {
		return
	}
	data, scale := s.row(0, first, r.cols)
	rest := scratch(r.b, &r.totals, max(s.rows, nearRows*maxDots+4))[:s.rows]
	r.level.dot[s.format](&dotArgs{
		w: &data[0], scale: &scale[0], x: &x.x[first], y: &rest[0],
		rows: s.rows, chunks: (whole - first) / chunkColumns, rowStride: s.rowStride, scaleStride: s.scaleStride,
	})
	for j, v := range rest {
		y[j] += v
	}
}
