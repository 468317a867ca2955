package weights

import (
	"errors"
	"runtime"
	"sync"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// area is the rectangle of a tensor's bytes that a rank holds. stride and width are in
// bytes; start counts from the beginning of the tensor.
//
//	┌────────────────────────────────────┐
//	│← start →┌─────────────┐            │ ┐
//	│         │← width     →│            │ │ rows
//	│         └─────────────┘            │ ┘
//	└────────────────────────────────────┘
//	          │← stride, to the next row →│
type area struct {
	tensor        *safetensors.Tensor
	start         int64
	width, stride int64
	rows          int64
	seen          *seen // what passes in readAcross and fillOne; nil: nothing is looked at
}

// bytes is the size of the area alone.
func (a *area) bytes() int64 { return a.rows * a.width }

// extent is the size with all that lies between its rows.
func (a *area) extent() int64 { return (a.rows-1)*a.stride + a.width }

// place is the offset in the file of byte off of the area's rows laid end to
// end.
func (a *area) place(off int64) int64 {
	return a.tensor.Offset() + a.start + off/a.width*a.stride + off%a.width
}

// readAt reads from offset off of the area's rows laid end to end.
func (a *area) readAt(p []byte, off int64) error {
	width, stride := a.width, a.stride
	if width == stride { // they lie so in the file
		width = a.bytes()
	}
	for len(p) > 0 {
		row, in := off/width, off%width
		n := min(int64(len(p)), width-in)
		if _, err := a.tensor.ReadAt(p[:n], a.start+row*stride+in); err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

// readShare is what makes another goroutine worth its start.
const readShare = 512 << 10

// readAcross is readAt with several goroutines, if there is enough to read: page faults of a
// mapped file, and files that are read, keep one goroutine waiting.
func (a *area) readAcross(p []byte, off int64) error {
	shares := max(1, min(len(p)/readShare, runtime.GOMAXPROCS(0)))
	errs := make([]error, shares)
	var group sync.WaitGroup
	for i := range shares {
		first, end := len(p)*i/shares&^63, len(p)*(i+1)/shares&^63
		if i == shares-1 {
			end = len(p)
		}
		group.Go(func() {
			if errs[i] = a.readAt(p[first:end], off+int64(first)); errs[i] == nil && a.seen != nil {
				a.seen.add(p[first:end], off+int64(first))
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// share returns the areas of a part's weight and scales that a rank holds; scale is the
// zero area if the format has no scales. The share must have rows.
func (s *origin) share(part *Part) (data, scale area) {
	f, rows, cols := s.format, part.keepRows(), part.keepCols()
	stride := f.rowBytes(part.cols())
	data = area{
		tensor: s.weight, start: int64(rows[0])*stride + f.rowBytes(cols[0]),
		width: f.rowBytes(cols.Len()), stride: stride, rows: int64(rows.Len()),
	}
	if !f.quantized() {
		return data, area{}
	}
	block := formats[f].blockCols
	rows, cols = f.scaleRows(rows), interval{cols[0] / block, ceilDiv(cols[1], block)}
	stride = int64(ceilDiv(part.cols(), block)) * f.scaleBytes()
	return data, area{
		tensor: s.scale, start: int64(rows[0])*stride + int64(cols[0])*f.scaleBytes(),
		width: int64(cols.Len()) * f.scaleBytes(), stride: stride, rows: int64(rows.Len()),
	}
}
