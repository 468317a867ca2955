package weights

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Progress is called with the bytes that are ready and their total, from the
// goroutine that loads, at least every 64 MB.
type Progress func(done, total int64)

// LoadOptions say how a plan's bytes are moved.
type LoadOptions struct {
	Progress Progress // nil: none

	// Populate reads a memory-mapped checkpoint ahead, so that the first draft
	// does not wait for the disk. Without it a page is read when it is first
	// used. Devices that cannot use the mapping read everything anyway.
	Populate bool
}

// Loaded is the parameters of a plan in a device's memory. It is safe for
// concurrent use until Close.
type Loaded struct {
	device   hip.Device
	matrices map[string]*Matrix
	vectors  map[string]hip.Ptr
	values   map[string][]float32
	owned    []hip.Ptr // allocations and adoptions
	inPlace  bool      // the device reads mapped files of the checkpoint
}

// uploadChunk is read and written at a time; the context is looked at between.
const uploadChunk = 16 << 20

// Load moves the plan's bytes to d. On an [hip.Adopter] the weights of a
// memory-mapped file stay where they are, else each part is uploaded once.
// Loading ends with ctx within one chunk of 64 MB. On any error everything that
// was taken on d is given back. The plan's checkpoint must be open, and stay so
// until [Loaded.Close] where the result is [Loaded.InPlace].
func (p *Plan) Load(ctx context.Context, d hip.Device, opts LoadOptions) (_ *Loaded, err error) {
	l := &Loaded{device: d, matrices: make(map[string]*Matrix), vectors: make(map[string]hip.Ptr), values: make(map[string][]float32)}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.free())
		}
	}()
	m := &mover{ctx: ctx, loaded: l, progress: opts.Progress, total: p.report.Bytes, adopted: make(map[*File]hip.Ptr)}
	m.adopter, _ = d.(hip.Adopter)
	for i := range p.params {
		if err := m.param(&p.params[i], p.sources[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", p.params[i].Name, err)
		}
	}
	if opts.Populate {
		if err := m.populate(); err != nil {
			return nil, err
		}
	}
	m.report(m.total - m.done)
	return l, nil
}

// Matrix returns a parameter by its name in the model. It is nil if there is
// none, or if this rank holds none of its rows.
func (l *Loaded) Matrix(name string) *Matrix { return l.matrices[name] }

// Vector returns a float32 vector in device memory by its parameter's name, or
// the zero Ptr if there is none.
func (l *Loaded) Vector(name string) hip.Ptr { return l.vectors[name] }

// Values returns a vector parameter as loaded; nil if there is none. The slice
// belongs to l.
func (l *Loaded) Values(name string) []float32 { return l.values[name] }

// InPlace tells whether parameters are read from the checkpoint's mapped files.
func (l *Loaded) InPlace() bool { return l.inPlace }

// Close frees the device memory. Nothing may use the parameters any more. It is
// a no-op the second time.
func (l *Loaded) Close() error { return l.free() }

func (l *Loaded) free() error {
	var errs []error
	for _, m := range l.matrices {
		errs = append(errs, m.Free(l.device))
	}
	for _, p := range l.owned {
		errs = append(errs, l.device.Free(p))
	}
	l.matrices, l.vectors, l.owned = nil, nil, nil
	return errors.Join(errs...)
}

// mover executes a plan.
type mover struct {
	ctx         context.Context
	loaded      *Loaded
	adopter     hip.Adopter // nil: everything is uploaded
	adopted     map[*File]hip.Ptr
	progress    Progress
	done, total int64
}

func (m *mover) report(n int64) {
	m.done += n
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
}

func (m *mover) param(p *Param, sources []origin) error {
	if p.Vector {
		return m.vector(p, sources)
	}
	var segments []Segment
	cols := 0
	for i, s := range sources {
		part := &p.Parts[i]
		if s.weight == nil || part.KeepRows.Len() == 0 {
			continue
		}
		segment, err := m.segment(part, s)
		if err != nil {
			return err
		}
		segments, cols = append(segments, segment), part.KeepCols.Len()
	}
	if len(segments) == 0 {
		return nil
	}
	matrix, err := NewMatrix(m.loaded.device, cols, segments)
	if err != nil {
		return err
	}
	m.loaded.matrices[p.Name] = matrix
	return nil
}

// segment brings a rank's share of one part to the device.
//
//	          ┌──────────────────────┐
//	          │      KeepCols        │
//	KeepRows  │    ┌─────────┐       │  in place: the rows keep the stride of
//	          │    │  share  │       │  the whole tensor; uploaded: they are
//	          │    └─────────┘       │  packed
//	          └──────────────────────┘
func (m *mover) segment(part *Part, s origin) (Segment, error) {
	f, rows, cols := s.format, part.KeepRows, part.KeepCols
	seg := Segment{Rows: int32(rows.Len()), Format: f}
	data := area{
		tensor: s.weight, stride: f.RowBytes(part.Cols), first: rows.First, rows: rows.Len(),
		offset: f.RowBytes(cols.First), width: f.RowBytes(cols.Len()),
	}
	var err error
	if seg.Data, seg.RowStride, err = m.area(data); err != nil || !f.Quantized() {
		return seg, err
	}
	row := &formats[f]
	_, whole := f.ScaleShape(part.Rows, part.Cols)
	_, kept := f.ScaleShape(rows.Len(), cols.Len())
	firstScale := rows.First / row.blockRows
	seg.ScaleRow = int32(rows.First % row.blockRows)
	seg.Scale, seg.ScaleStride, err = m.area(area{
		tensor: s.scale, stride: int64(whole) * f.scaleBytes(), first: firstScale,
		rows:   ceilDiv(rows.End, row.blockRows) - firstScale,
		offset: int64(cols.First/row.blockCols) * f.scaleBytes(), width: int64(kept) * f.scaleBytes(),
	})
	return seg, err
}

// area is a rectangle of a tensor's bytes: rows from first, stride bytes apart,
// of each the width bytes from offset.
type area struct {
	tensor        *Tensor
	stride        int64
	first, rows   int
	offset, width int64
}

func (m *mover) area(a area) (p hip.Ptr, stride int64, err error) {
	if err := m.ctx.Err(); err != nil {
		return 0, 0, err
	}
	start := int64(a.first)*a.stride + a.offset
	if base, ok, err := m.adopt(a.tensor.File()); err != nil {
		return 0, 0, err
	} else if ok {
		return base.Add(a.tensor.Offset() + start), a.stride, nil
	}
	p, err = m.loaded.device.Alloc(int64(a.rows) * a.width)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w", a.tensor.Name, err)
	}
	m.loaded.owned = append(m.loaded.owned, p)
	if a.width == a.stride { // whole rows lie together
		return p, a.width, m.upload(p, a.tensor, start, int64(a.rows)*a.width)
	}
	for r := range a.rows {
		if err := m.upload(p.Add(int64(r)*a.width), a.tensor, start+int64(r)*a.stride, a.width); err != nil {
			return 0, 0, err
		}
	}
	return p, a.width, nil
}

// upload copies n bytes of the tensor from off to p.
func (m *mover) upload(p hip.Ptr, t *Tensor, off, n int64) error {
	for buf := make([]byte, min(n, uploadChunk)); n > 0; {
		if err := m.ctx.Err(); err != nil {
			return err
		}
		buf = buf[:min(n, int64(len(buf)))]
		if _, err := t.ReadAt(buf, off); err != nil {
			return err
		}
		if err := m.loaded.device.Write(p, buf); err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		step := int64(len(buf))
		p, off, n = p.Add(step), off+step, n-step
		m.report(step)
	}
	return nil
}

// adopt gives a mapped file to the device, once; false if it has to be uploaded.
func (m *mover) adopt(f *File) (hip.Ptr, bool, error) {
	if p, ok := m.adopted[f]; ok {
		return p, true, nil
	}
	mapping := f.Mapping()
	if m.adopter == nil || len(mapping) == 0 {
		return 0, false, nil
	}
	p, err := m.adopter.Adopt(mapping, false)
	if err != nil {
		return 0, false, err
	}
	m.adopted[f] = p
	m.loaded.owned = append(m.loaded.owned, p)
	m.loaded.inPlace = true
	return p, true, nil
}

// populate reads the adopted files ahead.
func (m *mover) populate() error {
	for f := range m.adopted {
		before := m.done
		err := f.Populate(m.ctx, func(done, total int64) {
			if m.progress != nil {
				m.progress(min(before+done, m.total), m.total)
			}
		})
		if err != nil {
			return err
		}
		m.done = min(before+f.Size(), m.total)
	}
	return nil
}

// vector decodes the parts of a vector to float32.
func (m *mover) vector(p *Param, sources []origin) error {
	var values []float32
	for i, s := range sources {
		if s.weight == nil {
			continue
		}
		keep := p.Parts[i].KeepRows
		raw := make([]byte, s.format.RowBytes(keep.Len()))
		if _, err := s.weight.ReadAt(raw, s.format.RowBytes(keep.First)); err != nil {
			return err
		}
		part := make([]float32, keep.Len())
		s.format.Decode(part, raw, nil)
		values = append(values, part...)
		m.report(int64(len(raw)))
	}
	if len(values) == 0 {
		return m.ctx.Err()
	}
	ptr, err := hip.Upload(m.loaded.device, values)
	if err != nil {
		return err
	}
	m.loaded.owned = append(m.loaded.owned, ptr)
	m.loaded.vectors[p.Name], m.loaded.values[p.Name] = ptr, values
	return m.ctx.Err()
}
