package weights

import (
	"context"
	"fmt"
	"os"
	"slices"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// populateChunk bounds the bytes read ahead between two looks at the context.
const populateChunk = 64 << 20

// adopter is a device that uses memory of the caller in place.
type adopter interface {
	Adopt(mem []byte, writable bool) (hip.Ptr, error)
}

// mover executes a plan.
type mover struct {
	ctx     context.Context
	loaded  *Loaded
	adopter adopter           // nil: everything is uploaded
	adopted map[*byte]hip.Ptr // by where memory begins
	inPlace []area            // what populate reads ahead; nil if it is not wanted
	uploads []upload
	ahead   *ahead // of uploads and vectors
	ask     func(f *safetensors.File, begin, end int64)
	buf     []byte // for uploads

	check   *valueCheck // nil: values are not looked at
	watched []area      // in place, whose values are

	populates   bool
	progress    func(done, total int64)
	done, total int64
}

func newMover(ctx context.Context, d hip.Device, total int64, populate bool, progress func(done, total int64)) *mover {
	m := &mover{
		ctx: ctx, adopted: make(map[*byte]hip.Ptr), ask: readAhead,
		populates: populate, progress: progress, total: total,
		loaded: &Loaded{
			device: d, matrices: make(map[string]*Matrix),
			vectors: make(map[string]vector),
		},
	}
	m.adopter, _ = hip.As[adopter](d)
	return m
}

// report counts n bytes as ready and returns the error of the context, which the
// caller of progress may have ended.
func (m *mover) report(n int64) error {
	m.done += n
	if m.progress != nil {
		m.progress(m.done, m.total)
	}
	return m.ctx.Err()
}

// all finds a place on the device for every matrix before it copies any bytes. It copies in
// the order of the files; the vectors, which are few bytes, come last.
func (m *mover) all(p *Plan) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	m.ahead = newAhead(m.copied(p), m.ask)
	m.ahead.until(aheadWindow)
	if err := m.each(p, false, m.matrix); err != nil {
		return err
	}
	if err := m.upload(); err != nil {
		return err
	}
	m.ahead.until(m.ahead.total())
	if err := m.each(p, true, m.vector); err != nil {
		return err
	}
	if err := m.populate(); err != nil {
		return err
	}
	for i := range m.watched {
		var err error
		if m.buf, err = m.watched[i].scan(m.ctx, m.buf, func(int64) {}); err != nil {
			return err
		}
	}
	return nil
}

// each loads the parameters that are vectors, or those that are not.
func (m *mover) each(p *Plan, vectors bool, load func(p *Param, sources []origin) error) error {
	for i := range p.params {
		if p.params[i].vector() != vectors {
			continue
		}
		if err := load(&p.params[i], p.sources[i]); err != nil {
			return fmt.Errorf("%s: %w", p.params[i].Name, err)
		}
	}
	return nil
}

// matrix loads a parameter's parts as the segments of one matrix.
func (m *mover) matrix(p *Param, sources []origin) error {
	var segments []Segment
	for i := range sources {
		part := &p.Parts[i]
		if sources[i].weight == nil || part.keepRows().Len() == 0 {
			continue
		}
		segment, err := m.segment(p, part, &sources[i])
		if err != nil {
			return err
		}
		segments = append(segments, segment)
	}
	if len(segments) == 0 {
		return nil
	}
	matrix, err := NewMatrix(m.loaded.device, p.cols(), segments)
	if err != nil {
		return err
	}
	m.loaded.matrices[p.Name] = matrix
	return nil
}

// segment gives a rank's share of one part its place on the device. In place its rows
// keep the stride of the whole tensor; uploaded they are packed.
func (m *mover) segment(p *Param, part *Part, s *origin) (Segment, error) {
	data, scale := s.share(part)
	m.check.watch(p, part, s, &data, &scale)
	param := p.Name
	seg := Segment{rows: int32(data.rows), format: s.format, global: s.of}
	var err error
	if seg.data, seg.rowStride, err = m.move(param, &data); err != nil || !s.format.quantized() {
		return seg, err
	}
	seg.scaleRow = int32(part.KeepRows[0] % formats[s.format].blockRows)
	seg.scale, seg.scaleStride, err = m.move(param, &scale)
	return seg, err
}

// move makes an area readable on the device: in place, or as a packed copy, which
// upload makes.
func (m *mover) move(param string, a *area) (p hip.Ptr, stride int64, err error) {
	base, ok, err := m.adopt(a.tensor)
	switch {
	case err != nil:
		return 0, 0, err
	case ok && m.populates:
		m.inPlace = append(m.inPlace, *a)
	case ok:
		err = m.report(a.bytes())
	}
	if ok {
		if a.seen != nil {
			m.watched = append(m.watched, *a)
		}
		return base.Add(a.start), a.stride, err
	}
	if p, err = m.loaded.device.Alloc(a.bytes()); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", a.tensor.Name, err)
	}
	m.loaded.owned = append(m.loaded.owned, p)
	m.uploads = append(m.uploads, upload{*a, param, p})
	return p, a.width, nil
}

// inPlaceOf returns the memory that a tensor lies in, if the device can use it where it is, and
// where in it the tensor begins; nil if it must be copied.
func (m *mover) inPlaceOf(t *safetensors.Tensor) (mem []byte, at int64) {
	if m.adopter == nil {
		return nil, 0
	}
	return t.Mapping()
}

// adopt gives the stretch of a file that a tensor lies in to the device, once, and returns
// the tensor's address. It returns false if the tensor must be uploaded.
func (m *mover) adopt(t *safetensors.Tensor) (hip.Ptr, bool, error) {
	mem, at := m.inPlaceOf(t)
	if len(mem) == 0 {
		return 0, false, nil
	}
	if p, ok := m.adopted[&mem[0]]; ok {
		return p.Add(at), true, nil
	}
	p, err := m.adopter.Adopt(mem, false)
	if err != nil {
		return 0, false, fmt.Errorf("%s: %w", safetensors.Printable(t.File().Name()), err)
	}
	m.adopted[&mem[0]] = p
	m.loaded.owned = append(m.loaded.owned, p)
	m.loaded.inPlace = true
	return p.Add(at), true, nil
}

// populate reads ahead the areas that are used in place, in the order of the files, and
// nothing else of files that the head shares with its target.
func (m *mover) populate() error {
	slices.SortFunc(m.inPlace, byPlace)
	for i := range m.inPlace {
		if err := m.populateArea(&m.inPlace[i]); err != nil {
			return fmt.Errorf("%s: populate: %w", m.inPlace[i].tensor.Name, err)
		}
	}
	return nil
}

func (m *mover) populateArea(a *area) error {
	page := int64(os.Getpagesize())
	first := a.place(0)
	end := first + a.extent()
	ready := int64(0) // of the area's bytes
	for at := first / page * page; at < end; {
		next := min(at+populateChunk, end)
		if err := a.tensor.File().ReadAhead(at, next, true); err != nil {
			return err
		}
		// What lies between the rows counts for nothing.
		now := int64(float64(a.bytes()) * (float64(next-first) / float64(end-first)))
		if err := m.report(now - ready); err != nil {
			return err
		}
		at, ready = next, now
	}
	return nil
}

// vector decodes the parts of a vector to float32.
func (m *mover) vector(p *Param, sources []origin) error {
	values, stored, err := vectorValues(p, sources)
	if err != nil || len(values) == 0 {
		return err
	}
	for i := range sources {
		if s, part := &sources[i], &p.Parts[i]; m.check != nil && s.weight != nil && part.keepRows().Len() > 0 {
			data, scale := s.share(part)
			m.check.watch(p, part, s, &data, &scale)
			if m.buf, err = data.scan(m.ctx, m.buf, func(int64) {}); err != nil {
				return err
			}
		}
	}
	ptr, err := hip.Upload(m.loaded.device, values)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Parts[0].Tensor, err)
	}
	m.loaded.owned = append(m.loaded.owned, ptr)
	m.loaded.vectors[p.Name] = vector{ptr, values}
	return m.report(stored)
}

// vectorValues returns the values of a vector's parts, and their bytes as stored.
func vectorValues(p *Param, sources []origin) (values []float32, stored int64, err error) {
	for i := range sources {
		s, keep := &sources[i], p.Parts[i].keepRows()
		if s.weight == nil || keep.Len() == 0 {
			continue
		}
		data, _ := s.share(&p.Parts[i])
		raw, part := make([]byte, data.bytes()), make([]float32, keep.Len())
		if err := data.readAt(raw, 0); err != nil {
			return nil, 0, err
		}
		s.format.Decode(part, raw, nil)
		values = append(values, part...)
		stored += data.bytes()
	}
	return values, stored, nil
}
