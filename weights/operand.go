package weights

import (
	"slices"
	"sort"

	"github.com/drafthead/drafthead/hip"
)

// operand is rows of x in the forms in which they are multiplied. The workers of a launch
// share it.
type operand struct {
	n    int
	x    []float32 // [n, cols]; nil: nobody is known to need it, see floats
	from source

	columns tileColumns // of the host's, where it has a use for them
	sets    tileSets    // likewise, in place of them
	digits  [][]byte    // likewise, of each row; nil: it has none

	evenOdd []float32           // x in the order that BF16 wants, or nil
	pairs   [endFormat][]uint16 // the same, see splitRows, in the order of the format

	group, ranges, width int // rows of a part, parts of a group, columns of a part
}

// source is where the rows of x are: in their order, or row i at picked[i]/per.
type source struct {
	x      []float32
	picked []int32
	per    int32
}

func (o *source) row(i, cols int) []float32 {
	if o.picked != nil {
		i = int(o.picked[i] / o.per)
	}
	return o.x[i*cols : (i+1)*cols]
}

// operandValues is about how many values of x a part of the work has, and operandColumns what its
// columns are a multiple of.
const operandValues, operandColumns = 1 << 13, 512

// newOperand makes room for n rows in the scratch memory of r.
func (r *Rows) newOperand(from source, n int) *operand {
	o := &operand{n: n, from: from, group: tileSize, width: r.cols, ranges: 1}
	if from.picked == nil {
		o.x = from.x[:n*r.cols]
	}
	if n == 0 {
		return o
	}
	if !r.exact && r.level != nil {
		r.addForms(o)
	}
	if o.x == nil && r.needsFloats(o) {
		o.x = hip.Scratch[float32](r.b, n*r.cols)
	}
	o.width = max(ceilDiv(operandValues/min(n, o.group), operandColumns)*operandColumns, operandColumns)
	o.ranges = ceilDiv(r.cols, o.width)
	return o
}

// addForms makes room for what the formats of the weights have a use for.
func (r *Rows) addForms(o *operand) {
	chunks := r.cols / chunkColumns
	parts := exactParts
	if r.parts > 0 {
		parts = r.parts
	}
	switch {
	case !r.useTiles(o.n):
	case parts*o.n <= maxStreamTiles*tileSize:
		o.columns = tileColumns{count: ceilDiv(parts*o.n, tileSize), steps: r.cols / tileStep, parts: parts}
		o.columns.tiles = hip.Scratch[uint16](r.b, o.columns.count*o.columns.stride())
		o.group = o.n
	default:
		o.sets = tileSets{count: ceilDiv(o.n, tileSize), steps: r.cols / tileStep, parts: parts}
		o.sets.tiles = hip.Scratch[uint16](r.b, o.sets.count*o.sets.stride())
	}
	if r.useDigits(o.n) {
		o.digits = make([][]byte, o.n)
		size := r.cols / digitColumns * digitBytes
		memory := hip.Scratch[byte](r.b, o.n*size)
		for i := range o.digits {
			o.digits[i] = memory[i*size:][:size]
		}
	}
	for i := range r.segments {
		if f := r.segments[i].format; o.pairs[f] == nil && !o.inTiles(r, f) && r.usesPairs(f) {
			o.pairs[f] = hip.Scratch[uint16](r.b, ceilDiv(o.n, r.together(o.n))*r.together(o.n)*r.pairsStride())
		}
	}
	if r.level.evenOdd != nil && o.pairs[BF16] == nil && chunks > 0 && r.has(BF16) && !o.inTiles(r, BF16) {
		o.evenOdd = hip.Scratch[float32](r.b, o.n*r.cols)
	}
}

// inTiles reports whether rows are multiplied in tiles with weights of a format.
func (o *operand) inTiles(r *Rows, f Format) bool {
	return r.level.streamTiles[f][1] != nil && (o.columns.tiles != nil || o.sets.tiles != nil)
}

// needsFloats reports whether some weights are multiplied with x as it is.
func (r *Rows) needsFloats(o *operand) bool {
	if r.exact || r.level == nil || r.cols%chunkColumns != 0 {
		return true
	}
	return slices.ContainsFunc(r.segments, func(s Segment) bool {
		return !o.inTiles(r, s.format) && (o.pairs[s.format] == nil || o.n == 1)
	})
}

// work is how many parts are to be made.
func (o *operand) work() int {
	none := o.columns.tiles == nil && o.sets.tiles == nil && o.digits == nil && o.evenOdd == nil
	for _, p := range o.pairs {
		none = none && p == nil
	}
	if none && (o.x == nil || o.from.picked == nil) {
		return 0
	}
	return ceilDiv(o.n, o.group) * o.ranges
}

// make makes a part: some columns of some rows.
func (r *Rows) make(o *operand, part int) {
	first, in := part/o.ranges*o.group, part%o.ranges
	rows := min(o.group, o.n-first)
	c := in * o.width
	end := min(c+o.width, r.cols)
	if o.x != nil && o.from.picked != nil {
		for i := first; i < first+rows; i++ {
			copy(o.x[i*r.cols+c:i*r.cols+end], o.from.row(i, r.cols)[c:end])
		}
	}
	if o.columns.tiles != nil {
		r.packColumns(o, c, end)
	}
	if o.sets.tiles != nil {
		r.packSet(o, first/tileSize, c, end)
	}
	chunks := (end - c) / chunkColumns
	for i := first; i < first+rows; i++ {
		row := o.from.row(i, r.cols)
		if o.digits != nil && (i-first)%o.ranges == in { // whole rows
			r.packDigits(o, i, row)
		}
		if chunks == 0 {
			continue
		}
		if o.evenOdd != nil {
			r.level.evenOdd(&evenOddArgs{x: &row[c], to: &o.evenOdd[i*r.cols+c], chunks: chunks})
		}
		for f, pairs := range o.pairs {
			if pairs != nil {
				r.splitRow(o, Format(f), i, c, chunks)
			}
		}
	}
}

// floats returns n rows of x from first on as they are.
func (r *Rows) floats(o *operand, first, n int) *operand {
	some := &operand{n: n}
	if o.x != nil {
		some.x = o.x[first*r.cols : (first+n)*r.cols]
		return some
	}
	some.x = scratch(r.b, &r.gathered, n*r.cols)
	for i := range n {
		copy(some.x[i*r.cols:(i+1)*r.cols], o.from.row(first+i, r.cols))
	}
	return some
}

// operands are shared by the workers of a launch, which make them together.
type operands struct {
	of   []*operand
	ends []int // of the parts of each, counted through
}

// share makes the operands that begin makes room for, with all workers of the launch. rows
// returns what makes operand i in the calling worker.
func share(b *hip.Blocks, begin func(b *hip.Blocks) []*operand, rows func(i int) *Rows) []*operand {
	return hip.Share(b, func(b *hip.Blocks) (*operands, int) {
		all, parts := &operands{of: begin(b)}, 0
		for _, o := range all.of {
			parts += o.work()
			all.ends = append(all.ends, parts)
		}
		return all, parts
	}, func(all *operands, part int) {
		i := sort.SearchInts(all.ends, part+1)
		if i > 0 {
			part -= all.ends[i-1]
		}
		rows(i).make(all.of[i], part)
	}).of
}

// with returns r for the scratch memory of b.
func (r *Rows) with(b *hip.Blocks) *Rows {
	return &Rows{b: b, segments: r.segments, cols: r.cols, level: r.level, exact: r.exact, parts: r.parts}
}

// load takes n rows of x, n × cols, which Multiply multiplies from then on. They must not
// change meanwhile.
func (r *Rows) load(x []float32, n int) {
	r.x = r.newOperand(source{x: x}, n)
	for part := range r.x.work() {
		r.make(r.x, part)
	}
}

// Share takes n rows of x, n × cols, which Multiply multiplies from then on in all blocks of
// the launch. They must not change meanwhile. If Multiply needs them in another form, the
// workers make it together. Share calls [hip.Share].
func (r *Rows) Share(x []float32, n int) {
	r.x = share(r.b, func(b *hip.Blocks) []*operand {
		return []*operand{r.with(b).newOperand(source{x: x}, n)}
	}, func(int) *Rows { return r })[0]
}

// SharePicked is Share for count sets of rows: row i of a set is row picked(set)[i] / per of
// x. Use says which of them Multiply multiplies.
func (r *Rows) SharePicked(x []float32, per int32, count int, picked func(set int) []int32) {
	r.picked = share(r.b, func(b *hip.Blocks) []*operand {
		own, sets := r.with(b), make([]*operand, count)
		for i := range sets {
			rows := picked(i)
			sets[i] = own.newOperand(source{x, rows, per}, len(rows))
		}
		return sets
	}, func(int) *Rows { return r })
}

// Use loads a set of rows.
func (r *Rows) Use(set int) { r.x = r.picked[set] }
