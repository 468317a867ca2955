package weights

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/drafthead/drafthead/hip"
)

// requantizeChunk is roughly the bytes of decoded weights that one goroutine holds at a
// time.
const requantizeChunk = 2 << 20

// Requantize returns a copy of m in format f, MXFP8, INT8 or MXFP4, in its own memory on d, the
// device of m. The caller frees it and may free m before. Each value is decoded to a
// float32 and rounded to the nearest value of f:
//
//	MXFP8   e4m3, of 4 significant bits, saturating; of all power-of-two scales
//	        the one with the least squared error of its 32 columns
//	INT8    within half a step, the largest magnitude of its 32 columns ÷ 127
//	MXFP4   e2m1, of 2 significant bits, saturating; its scale as that of MXFP8
//
// Ties go to even. A block of columns that holds NaN or an infinity becomes NaN.
// The result does not depend on the device, nor on the number of goroutines.
//
// A goroutine for each CPU reads, encodes and writes rows in chunks, so that Requantize
// takes little more memory than the result. progress, which may be nil, is called from the
// calling goroutine with the bytes of the result. When ctx ends, or on any error,
// everything taken is given back.
func (m *Matrix) Requantize(ctx context.Context, d hip.Device, f Format, progress func(done, total int64)) (*Matrix, error) {
	if !f.valid() || formats[f].encode == nil {
		return nil, &hip.InputError{Op: "weights: requantize", Field: "format", Got: f, Want: "MXFP8, INT8 or MXFP4"}
	}
	q, err := m.blank(d, f)
	returned := false
	defer func() {
		if !returned { // progress panicked
			_ = q.Free(d)
		}
	}()
	if err == nil {
		r := requantizer{device: d, from: m, to: &q.segments[0]}
		err = r.run(ctx, progress)
	}
	returned = true
	if err != nil {
		if freed := q.Free(d); freed != nil { // nobody else knows the memory: once more
			err = errors.Join(err, freed)
			_ = q.Free(d)
		}
		return nil, err
	}
	return q, nil
}

// blank returns a matrix of m's shape in format f with memory of its own. With an
// error it holds what was taken.
func (m *Matrix) blank(d hip.Device, f Format) (*Matrix, error) {
	q := new(Matrix)
	alloc := func(rowBytes int64) (p hip.Ptr, err error) {
		if p, err = d.Alloc(int64(m.Rows) * rowBytes); err == nil {
			q.owned = append(q.owned, p)
		}
		return p, err
	}
	data, err := alloc(f.rowBytes(m.Cols))
	if err != nil {
		return q, err
	}
	scale, err := alloc(f.scaleRowBytes(m.Cols))
	if err != nil {
		return q, err
	}
	blank, err := NewMatrix(d, m.Cols, []Segment{DenseSegment(f, m.Rows, m.Cols, data, scale)})
	if err != nil {
		return q, err
	}
	blank.owned = q.owned
	return blank, nil
}

type requantizer struct {
	device hip.Device
	from   *Matrix
	to     *Segment

	next   atomic.Int64 // first row that nobody took
	failed atomic.Bool
}

// chunkDone is a goroutine's word on one chunk.
type chunkDone struct {
	rows int
	err  error
}

func (r *requantizer) run(ctx context.Context, progress func(done, total int64)) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	chunk := max(1, requantizeChunk/(4*r.from.Cols))
	done := make(chan chunkDone)
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), ceilDiv(r.from.Rows, chunk)) {
		working.Go(func() { r.work(chunk, done) })
	}
	go func() { working.Wait(); close(done) }()

	defer func() { // where progress panics
		r.failed.Store(true)
		for range done {
		}
	}()
	total := r.to.bytes(r.from.Cols)
	ready, row := int64(0), total/int64(r.from.Rows)
	for c := range done {
		if err != nil {
			continue // the others end their chunks
		}
		if err = c.err; err == nil {
			if ready += int64(c.rows) * row; progress != nil {
				progress(ready, total)
			}
			err = ctx.Err()
		}
		r.failed.Store(err != nil)
	}
	return err
}

// work requantizes chunks until there are no more, or one failed.
func (r *requantizer) work(chunk int, done chan<- chunkDone) {
	var c rowChunk
	for !r.failed.Load() {
		first := int(r.next.Add(int64(chunk))) - chunk
		if first >= r.from.Rows {
			return
		}
		n := min(chunk, r.from.Rows-first)
		done <- chunkDone{n, c.requantize(r, first, n)}
	}
}

// rowChunk is the memory of one goroutine.
type rowChunk struct {
	data, scale       []byte // as stored
	row               []float32
	newData, newScale []byte
}

// requantize reads, encodes and writes n rows from first on.
func (c *rowChunk) requantize(r *requantizer, first, n int) error {
	cols, to := r.from.Cols, r.to
	c.row = sized(c.row, cols)
	c.newData, c.newScale = sized(c.newData, n*int(to.rowStride)), sized(c.newScale, n*int(to.scaleStride))
	data, scale := c.newData, c.newScale
	for i, left := r.from.segmentOf(first), n; left > 0; i++ {
		s := &r.from.segments[i]
		from := first + n - left - int(s.first)
		some := min(left, int(s.rows)-from)
		if err := c.read(r.device, s, cols, from, some); err != nil {
			return err
		}
		for j := range some {
			var stored []byte
			if s.format.quantized() {
				row := s.scaleRows(from, j+1).Len() - 1
				stored = c.scale[int64(row)*s.format.scaleRowBytes(cols):]
			}
			s.format.Decode(c.row, c.data[int64(j)*s.format.rowBytes(cols):], stored)
			if s.format == NVFP4 {
				s.global.scale(c.row)
			}
			formats[to.format].encode(data[:to.rowStride], scale[:to.scaleStride], c.row)
			data, scale = data[to.rowStride:], scale[to.scaleStride:]
		}
		left -= some
	}
	if err := r.device.Write(to.data.Add(int64(first)*to.rowStride), c.newData); err != nil {
		return err
	}
	return r.device.Write(to.scale.Add(int64(first)*to.scaleStride), c.newScale)
}

// read reads n rows of a segment, as they are stored.
func (c *rowChunk) read(d hip.Device, s *Segment, cols, first, n int) (err error) {
	from := s.data.Add(int64(first) * s.rowStride)
	if c.data, err = readRows(d, c.data, from, s.format.rowBytes(cols), s.rowStride, n); err != nil || !s.format.quantized() {
		return err
	}
	rows := s.scaleRows(first, n)
	from = s.scale.Add(int64(rows[0]) * s.scaleStride)
	c.scale, err = readRows(d, c.scale, from, s.format.scaleRowBytes(cols), s.scaleStride, rows.Len())
	return err
}

// readRows reads n rows of width bytes, stride bytes apart, into buf or a larger buffer,
// end to end.
func readRows(d hip.Device, buf []byte, from hip.Ptr, width, stride int64, n int) ([]byte, error) {
	buf = sized(buf, n*int(width))
	if stride == width {
		return buf, d.Read(buf, from)
	}
	for i := range int64(n) {
		if err := d.Read(buf[i*width:(i+1)*width], from.Add(i*stride)); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// sized returns n values of memory, those of buf where it is large enough.
func sized[T any](buf []T, n int) []T { return slices.Grow(buf[:0], n)[:n] }
