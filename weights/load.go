package weights

import (
	"context"
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/hip"
)

// Loaded is the parameters of a plan in a device's memory. It is safe for
// concurrent use until Close.
type Loaded struct {
	device   hip.Device
	matrices map[string]*Matrix
	vectors  map[string]vector
	owned    []hip.Ptr // allocations and adoptions
	inPlace  bool      // the device reads mapped files of the checkpoint
}

// vector is a parameter that is no matrix, in device memory and on the host.
type vector struct {
	ptr    hip.Ptr
	values []float32
}

// Load moves the plan's bytes to d. On an [hip.Adopter] the weights of a
// memory-mapped file stay where they are, else each part is uploaded once, in the
// order of the files, while the disk is asked for those that follow.
//
// With populate the parameters in a memory-mapped checkpoint are read ahead, so that the
// first draft does not wait for the disk; else a page is read when it is first used.
// Devices that cannot use the mapping read everything anyway.
//
// progress, which may be nil, is called with the bytes that are ready and their total, from
// the goroutine that loads, at least every 64 MB that it moves. Bytes that a device uses in
// place are ready at once, unless they are populated. done never falls, and the last call
// of a load has done = total.
//
// Loading ends with ctx within one chunk of 64 MB, even if the last call of progress
// is what ends ctx. On any error everything that was taken on d is given
// back. The plan's checkpoint must be open, and stay so until [Loaded.Close] where
// the result is [Loaded.InPlace].
func (p *Plan) Load(ctx context.Context, d hip.Device, populate bool, progress func(done, total int64)) (*Loaded, error) {
	return p.load(newMover(ctx, d, p.report.Bytes, populate, progress))
}

// LoadChecked is [Plan.Load] that refuses what [Plan.CheckWeights] does. It looks at what
// is uploaded as it passes, and reads what is used in place.
func (p *Plan) LoadChecked(ctx context.Context, d hip.Device, populate bool, progress func(done, total int64)) (*Loaded, error) {
	m := newMover(ctx, d, p.report.Bytes, populate, progress)
	m.check = new(valueCheck)
	return p.load(m)
}

func (p *Plan) load(m *mover) (*Loaded, error) {
	err := m.all(p)
	if err != nil {
		err = fmt.Errorf("weights: load: %w", err)
	} else {
		err = m.check.err(m.ctx)
	}
	if err != nil {
		if freed := m.loaded.Close(); freed != nil {
			err = errors.Join(err, freed)
		}
		return nil, err
	}
	return m.loaded, nil
}

// Matrix returns a parameter by its name in the model. It is nil if there is
// none, or if this rank holds none of its rows.
func (l *Loaded) Matrix(name string) *Matrix { return l.matrices[name] }

// Vector returns a vector parameter by its name in the model, as float32 in device memory
// and on the host; zero and nil if there is none. The slice belongs to l.
func (l *Loaded) Vector(name string) (p hip.Ptr, values []float32) {
	v := l.vectors[name]
	return v.ptr, v.values
}

// InPlace reports whether parameters are read from the checkpoint's mapped files.
func (l *Loaded) InPlace() bool { return l.inPlace }

// Close frees the device memory. Nothing may use the parameters any more. It is
// a no-op the second time.
func (l *Loaded) Close() error {
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
