package weights

import "unsafe"

// multiplyHost multiplies in float32, see [Rows.Multiply]. Where rows lie apart, as those of
// some tokens do, the next ones are asked for while the first ones are multiplied.
func (r *Rows) multiplyHost(y []float32, yStride, first, count int) {
	if count == 0 {
		return
	}
	for s := r.stored(first, count); count > 0; {
		first, count = first+s.rows, count-s.rows
		var next run
		if count > 0 {
			if next = r.stored(first, count); r.level != nil && r.level.prefetch != nil {
				r.level.prefetch(&next.data[0], min(len(next.data), aheadBytes)/64)
			}
		}
		r.multiplyRun(y, yStride, &s, r.x)
		if s.of != one { // of sums, which are fewer than values
			for i := range r.x.n {
				s.of.scale(y[i*yStride:][:s.rows])
			}
		}
		y, s = y[min(s.rows, len(y)):], next
	}
}

// aheadBytes is how much of the next rows is asked for: from then on the processor follows.
const aheadBytes = 2048

func (r *Rows) multiplyRun(y []float32, yStride int, s *run, x *operand) {
	whole := r.cols / chunkColumns * chunkColumns
	if r.level == nil || whole == 0 {
		r.multiplyPlain(y, yStride, s, x)
		return
	}
	if r.level.dots[s.format][1] == nil {
		r.multiplyDecoded(y, yStride, s, x)
		return
	}
	switch {
	case x.pairs[s.format] != nil && !r.alone(s, x, pairsRows):
		r.multiplyPairs(y, yStride, s, x)
	case x.digits != nil && r.level.digits[s.format] != nil:
		r.multiplyDigits(y, yStride, s, x)
	case x.n == 1 && s.format.quantized() || r.alone(s, x, r.level.dotsRows):
		r.multiplyRow(y, s, x)
	case x.columns.tiles != nil && r.level.streamTiles[s.format][1] != nil:
		r.multiplyTiles(y, yStride, s, x)
	case x.sets.tiles != nil && r.level.decodeTiles[s.format] != nil:
		r.multiplySets(y, yStride, s, x)
	case x.n <= fewRows && s.rows >= r.level.dotsRows:
		r.multiplyDots(y, yStride, s, x)
	default:
		r.multiplyPanels(y, yStride, s, x)
	}
	if whole < r.cols {
		r.addTail(y, yStride, s, x, whole)
	}
}

// alone reports whether a row of x meets rows that are too few to be multiplied side by side,
// and lie apart from others.
func (r *Rows) alone(s *run, x *operand, rows int) bool {
	return x.n == 1 && !s.format.quantized() && s.rows < rows
}

// chunkColumns is the columns that the assembly takes at a time.
const chunkColumns = 64

// multiplyRow multiplies one row of x, a row of weights after the other.
func (r *Rows) multiplyRow(y []float32, s *run, x *operand) {
	r.level.dot[s.format](&dotArgs{
		w: &s.data[0], scale: unsafe.SliceData(s.scale), x: &r.ordered(x, s.format)[0], y: &y[0],
		rows: s.rows, chunks: r.cols / chunkColumns, rowStride: s.rowStride, scaleStride: s.scaleStride,
	})
}

// ordered returns rows of x with the columns in the order that a format wants.
func (r *Rows) ordered(x *operand, f Format) []float32 {
	if f == BF16 && x.evenOdd != nil {
		return x.evenOdd
	}
	plain := r.floats(x, 0, x.n)
	if f != BF16 || r.level.evenOdd == nil {
		return plain.x
	}
	to := scratch(r.b, &r.evenOddOnce, len(plain.x)) // of rows that another product has left: nobody keeps it
	for i := 0; i < len(plain.x); i += r.cols {
		r.level.evenOdd(&evenOddArgs{x: &plain.x[i], to: &to[i], chunks: r.cols / chunkColumns})
	}
	return to
}

// multiplyDots multiplies a few rows of x, reading the weights as they are stored.
// Where there are more rows than are multiplied at once, the weights are read again
// while they are near.
func (r *Rows) multiplyDots(y []float32, yStride int, s *run, x *operand) {
	level := r.level
	whole := r.cols / chunkColumns * chunkColumns
	rows := s.rows / level.dotsRows * level.dotsRows
	totals := scratch(r.b, &r.totals, nearRows*maxDots+4)
	xs := r.ordered(x, s.format)
	for first := 0; first < rows; first += nearRows {
		n := min(nearRows, rows-first)
		data, scale := s.row(first, 0, r.cols)
		for i, count := 0, 0; i < x.n; i += count {
			count = evenShare(x.n-i, maxDots)
			d := &r.calls.dots
			*d = dotsArgs{
				w: &data[0], scale: unsafe.SliceData(scale), x: &xs[i*r.cols], y: &totals[0],
				groups: n / level.dotsRows, chunks: whole / chunkColumns,
				rowStride: s.rowStride, scaleStride: s.scaleStride, xStride: 4 * r.cols,
			}
			level.dots[s.format][count](d)
			if d.special != 0 {
				some := s.slice(first, n)
				r.multiplyPanels(y[first:], yStride, &some, x)
				break
			}
			for k := range count {
				out := y[(i+k)*yStride+first:][:n]
				for j := range out {
					out[j] = totals[j*count+k]
				}
			}
		}
	}
	if rows < s.rows {
		rest := s.slice(rows, s.rows-rows)
		if x.n == 1 {
			r.multiplyRow(y[rows:], &rest, x)
			return
		}
		r.multiplyPanels(y[rows:], yStride, &rest, x)
	}
}

// evenShare returns how many of n rows to take, at most that many, so that the same for
// what is left takes them all in as few runs as can be, as long as each other but for one.
func evenShare(n, most int) int { return ceilDiv(n, ceilDiv(n, most)) }

const (
	// nearRows is the rows of weights that are multiplied with all rows of x before
	// the next ones are read.
	nearRows = 16
	// fewRows is the rows of x up to which that is faster than to decode the
	// weights to panels.
	fewRows = 12
)

// multiplyDecoded decodes each row before it is multiplied.
func (r *Rows) multiplyDecoded(y []float32, yStride int, s *run, x *operand) {
	w := r.decoded()
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(&w[0])), 4*len(w))
	for j := range s.rows {
		data, scale := s.row(j, 0, r.cols)
		s.format.Decode(w, data, scale)
		one := run{format: F32, rows: 1, data: bytes, rowStride: len(bytes)}
		r.multiplyRun(y[j:], yStride, &one, x)
	}
}

// addTail adds the columns from first on.
func (r *Rows) addTail(y []float32, yStride int, s *run, x *operand, first int) {
	var w [chunkColumns]float32
	tail := w[:r.cols-first]
	for j := range s.rows {
		data, scale := s.row(j, first, r.cols)
		s.format.Decode(tail, data, scale)
		for i := range x.n {
			y[i*yStride+j] += float32(dot64(tail, x.x[i*r.cols+first:(i+1)*r.cols]))
		}
	}
}
