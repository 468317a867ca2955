package weights

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/drafthead/drafthead/hip"
)

// Loaded holds the parameters of a plan in a device's memory. Several goroutines may use it
// until Close.
type Loaded struct {
	device   hip.Device
	matrices map[string]*Matrix
	vectors  map[string]vector
	owned    []hip.Ptr // allocations and adoptions
	inPlace  bool      // the device reads mapped files of the checkpoint
}

// vector is a norm, bias or scalar, in device memory and on the host.
type vector struct {
	ptr    hip.Ptr
	values []float32
}

// Load moves the plan's bytes to d. On a device that can [hip.Adopt] memory the weights of a
// memory-mapped file stay where they are. Otherwise Load uploads each part once, in the order of the files,
// and asks the disk ahead for the parts that follow.
//
// With populate Load reads the parameters of a memory-mapped checkpoint ahead, so that the
// first draft does not wait for the disk; without it a page is read when it is first used.
// For devices that cannot use the mapping Load reads everything anyway.
//
// With check Load refuses what [Plan.CheckWeights] does. It looks at what is uploaded as it
// passes, and reads what is used in place.
//
// progress, which may be nil, is called with the bytes that are ready and their total, from
// the goroutine that loads, at least every 64 MB that it moves. Bytes that a device uses in
// place are ready at once, unless they are populated. done never falls, and the last call
// of a load has done = total.
//
// When ctx ends, Load stops within one chunk of 64 MB, even if the last call of progress
// ends ctx. On any error everything taken on d is given back. The plan's checkpoint must be
// open, and stay open until [Loaded.Close] if the result is [Loaded.InPlace].
func (p *Plan) Load(ctx context.Context, d hip.Device, populate, check bool, progress func(done, total int64)) (*Loaded, error) {
	m := newMover(ctx, d, p.report.Bytes, populate, progress)
	if check {
		m.check = new(valueCheck)
	}
	returned := false
	defer func() {
		if !returned { // progress panicked
			_ = m.loaded.Close()
		}
	}()
	err := m.all(p)
	if err != nil {
		err = fmt.Errorf("weights: load: %w", err)
	} else {
		err = m.check.err(ctx)
	}
	returned = true
	if err != nil {
		if freed := m.loaded.Close(); freed != nil { // nobody else knows the memory: once more
			err = errors.Join(err, freed)
			_ = m.loaded.Close()
		}
		return nil, err
	}
	return m.loaded, nil
}

// Matrix returns a parameter by its name in the model. It is nil if the name is unknown, or
// if this rank holds none of its rows.
func (l *Loaded) Matrix(name string) *Matrix { return l.matrices[name] }

// Vector returns a vector parameter by its name in the model, as float32 in device memory
// and on the host; zero and nil if there is none. The slice belongs to l.
func (l *Loaded) Vector(name string) (p hip.Ptr, values []float32) {
	v := l.vectors[name]
	return v.ptr, v.values
}

// InPlace reports whether parameters are read from the checkpoint's mapped files.
func (l *Loaded) InPlace() bool { return l.inPlace }

// Close frees the device memory. Nothing may use the parameters after it. What the device
// could not free, which is the error then, a second Close frees. Otherwise it does nothing.
func (l *Loaded) Close() error {
	var errs []error
	for name, m := range l.matrices {
		err := m.Free(l.device)
		if err == nil {
			delete(l.matrices, name)
		}
		errs = append(errs, err)
	}
	l.vectors = nil
	return errors.Join(append(errs, freeAll(l.device, &l.owned))...)
}

// freeAll frees memory, and leaves in the list what the device keeps.
func freeAll(d hip.Device, list *[]hip.Ptr) error {
	var errs []error
	*list = slices.DeleteFunc(*list, func(p hip.Ptr) bool {
		err := d.Free(p)
		errs = append(errs, err)
		return err == nil
	})
	return errors.Join(errs...)
}
