package hip

import (
	"errors"
	"runtime"
	"time"
	"unsafe"
)

func (g *gpu) Time(work func() error) (time.Duration, error) {
	var marks [2]uintptr
	err := g.mark(&marks[0])
	if err == nil {
		if err = work(); err == nil {
			err = g.mark(&marks[1])
		}
	}
	if err != nil {
		return 0, errors.Join(err, g.unmark(marks[:]))
	}
	elapsed, err := g.between(&marks)
	return elapsed, errors.Join(err, g.unmark(marks[:]))
}

// mark records an event behind the work queued so far.
func (g *gpu) mark(event *uintptr) error {
	if err := g.enter("time"); err != nil {
		return err
	}
	defer g.leave()
	const withTiming = 0
	if err := g.driver.call("time", callEventCreate, uintptr(unsafe.Pointer(event)), withTiming); err != nil {
		return err
	}
	return g.driver.call("time", callEventRecord, *event, g.stream)
}

func (g *gpu) between(marks *[2]uintptr) (time.Duration, error) {
	if err := g.enter("time"); err != nil {
		return 0, err
	}
	defer g.leave()
	if err := g.wait("time", callEventSync, marks[1]); err != nil {
		return 0, err
	}
	var milliseconds float32
	err := g.driver.call("time", callEventElapsed, uintptr(unsafe.Pointer(&milliseconds)), marks[0], marks[1])
	return time.Duration(float64(milliseconds) * float64(time.Millisecond)), err
}

func (g *gpu) unmark(marks []uintptr) error {
	g.using.RLock()
	defer g.using.RUnlock()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	errs := []error{g.selectDevice("time")}
	for _, event := range marks {
		if event != 0 {
			errs = append(errs, g.driver.call("time", callEventDestroy, event))
		}
	}
	return errors.Join(errs...)
}
