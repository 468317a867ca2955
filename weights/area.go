package weights

// area is a rectangle of a tensor's bytes: what a rank holds of it. Both strides
// and width are in bytes; start counts from the beginning of the tensor.
//
//	┌────────────────────────────────────┐
//	│← start →┌─────────────┐            │ ┐
//	│         │← width     →│            │ │ rows
//	│         └─────────────┘            │ ┘
//	└────────────────────────────────────┘
//	          │← stride, to the next row →│
type area struct {
	tensor        *Tensor
	start         int64
	width, stride int64
	rows          int64
}

// bytes is the size of the area alone.
func (a *area) bytes() int64 { return a.rows * a.width }

// extent is the size with all that lies between its rows.
func (a *area) extent() int64 { return (a.rows-1)*a.stride + a.width }

// readAt reads from offset off of the area's rows laid one behind the other.
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

// share returns the areas of a part's weight and scales that a rank holds; scale
// is the zero area where the format has none. The share has rows.
func (s *origin) share(part *Part) (data, scale area) {
	f, rows, cols := s.format, part.KeepRows, part.KeepCols
	stride := f.RowBytes(part.Cols)
	data = area{
		tensor: s.weight, start: int64(rows.First)*stride + f.RowBytes(cols.First),
		width: f.RowBytes(cols.Len()), stride: stride, rows: int64(rows.Len()),
	}
	if !f.Quantized() {
		return data, area{}
	}
	block := formats[f].blockCols
	rows, cols = f.scaleRows(rows), Range{cols.First / block, ceilDiv(cols.End, block)}
	stride = int64(ceilDiv(part.Cols, block)) * f.scaleBytes()
	return data, area{
		tensor: s.scale, start: int64(rows.First)*stride + int64(cols.First)*f.scaleBytes(),
		width: int64(cols.Len()) * f.scaleBytes(), stride: stride, rows: int64(rows.Len()),
	}
}
