package gpu

import (
	"errors"
	"time"
	"unsafe"
)

func (g *device) Time(work func() error) (time.Duration, error) {
	var marks [2]uintptr
	var kernels int64 // ahead of the second mark
	err := g.mark(&marks[0])
	if err == nil {
		if err = work(); err == nil {
			kernels = g.launched.count()
			err = g.mark(&marks[1])
		}
	}
	if err != nil {
		return 0, joined(err, g.unmark(marks[:]))
	}
	elapsed, err := g.between(&marks, kernels)
	return elapsed, joined(err, g.unmark(marks[:]))
}

// mark records an event after the work queued so far. The event belongs to the device,
// which may be closed before unmark.
func (g *device) mark(event *uintptr) error {
	t, err := g.enter("time")
	if err != nil {
		return err
	}
	defer g.leave(t)
	const withTiming = 0
	if err := g.call("time", callEventCreate, uintptr(unsafe.Pointer(event)), withTiming); err != nil {
		return err
	}
	g.mu.Lock()
	g.marks[*event] = struct{}{}
	g.mu.Unlock()
	return g.call("time", callEventRecord, *event, g.stream)
}

func (g *device) between(marks *[2]uintptr, kernels int64) (time.Duration, error) {
	t, err := g.enter("time")
	if err != nil {
		return 0, err
	}
	defer g.leave(t)
	if err := g.wait("time", callEventSync, marks[1], kernels); err != nil {
		return 0, err
	}
	var milliseconds float32
	err = g.call("time", callEventElapsed, uintptr(unsafe.Pointer(&milliseconds)), marks[0], marks[1])
	return time.Duration(float64(milliseconds) * float64(time.Millisecond)), err
}

func (g *device) unmark(marks []uintptr) error {
	g.using.RLock()
	defer g.using.RUnlock()
	if g.closed {
		return nil // and the events are gone
	}
	t, err := g.selectDevice("time")
	if err != nil {
		return err
	}
	defer g.deselect(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	var errs []error
	for _, event := range marks {
		if _, live := g.marks[event]; live {
			delete(g.marks, event)
			errs = append(errs, g.call("time", callEventDestroy, event))
		}
	}
	return errors.Join(errs...)
}
