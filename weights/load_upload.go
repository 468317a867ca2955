package weights

import (
	"fmt"
	"slices"
	"sync"

	"github.com/drafthead/drafthead/hip"
)

// uploadChunk is the number of bytes that are read and written at a time; the context is
// checked in between.
const uploadChunk = 16 << 20

// upload is an area that is copied to the device.
type upload struct {
	area
	param string
	to    hip.Ptr
}

// copied returns the areas that are not used in place.
func (m *mover) copied(p *Plan) (areas []area) {
	for i, sources := range p.sources {
		for j := range sources {
			s, part := &sources[j], &p.params[i].Parts[j]
			if s.weight == nil || part.keepRows().Len() == 0 {
				continue
			}
			data, scale := s.share(part)
			for _, a := range []area{data, scale} {
				if a.tensor == nil {
					continue
				}
				if mem, _ := m.inPlaceOf(a.tensor); len(mem) == 0 || p.params[i].vector() {
					areas = append(areas, a)
				}
			}
		}
	}
	return areas
}

// upload copies the rows of areas to the device, end to end, in the order of the files. A
// [filler] takes them straight from where they are read.
func (m *mover) upload() error {
	slices.SortFunc(m.uploads, func(a, b upload) int { return byPlace(a.area, b.area) })
	if f, ok := hip.As[filler](m.loaded.device); ok {
		return m.fill(f)
	}
	for i := range m.uploads {
		if err := m.write(&m.uploads[i]); err != nil {
			return fmt.Errorf("%s: %w", m.uploads[i].param, err)
		}
	}
	return nil
}

func (m *mover) write(u *upload) error {
	for off, size := int64(0), u.bytes(); off < size; {
		n := min(size-off, uploadChunk)
		m.buf = slices.Grow(m.buf[:0], int(n))[:n]
		if err := m.read(&u.area, m.buf, off); err != nil {
			return err
		}
		if err := m.loaded.device.Write(u.to.Add(off), m.buf); err != nil {
			return fmt.Errorf("%s: %w", u.tensor.Name, err)
		}
		off += n
		if err := m.report(n); err != nil {
			return err
		}
	}
	return nil
}

// read reads from offset off of an area and asks the disk for what comes after. This
// goroutine asks first, since a goroutine that reads may hold its processor until the disk
// is done.
func (m *mover) read(a *area, part []byte, off int64) (err error) {
	var reading sync.WaitGroup
	reading.Go(func() { err = a.readAcross(part, off) })
	m.ahead.beyond(a.tensor.File(), a.place(off+int64(len(part))))
	reading.Wait()
	return err
}
