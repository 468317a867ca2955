package gpu

import (
	"errors"
	"sync"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

// A kernel runs after the call that queued it has returned, so a driver reports its fault
// from whatever call comes later, and from every one after that. The device keeps the
// first report and answers every later call with it, so that a caller sees one error, of
// the kernel that may have caused it, and not the many that follow from it.

// call calls the driver for the device, which is current on this thread, and keeps a fault
// that the call reports.
//
//go:uintptrescapes
func (g *device) call(op string, c call, args ...uintptr) error {
	return g.noted(g.driver.call(op, c, args...))
}

// noted keeps a fault, and returns the first one in place of it.
func (g *device) noted(err error) error {
	fault := faultOf(err)
	if fault == nil {
		return err
	}
	blamed := g.launched.blame(fault, g.lent)
	g.fault.CompareAndSwap(nil, &blamed)
	return *g.fault.Load()
}

// faultOf returns what the driver said if the device does nothing more after it, else nil.
func faultOf(err error) *DriverError {
	if e, ok := errors.AsType[*DriverError](err); ok && e.ends() {
		return e
	}
	return nil
}

// joined is errors.Join without duplicates, since several calls may report the same fault.
// A single error stays itself.
func joined(errs ...error) error {
	var all error
	for _, err := range errs {
		switch {
		case err == nil || errors.Is(all, err):
		case all == nil:
			all = err
		default:
			all = errors.Join(all, err)
		}
	}
	return all
}

// launched counts the kernels in a stream, so that a fault is blamed on those that may
// have caused it. The stream runs them in the order in which they were queued; therefore
// queue holds the lock while the driver queues, and the n-th kernel counted is the n-th in
// the stream.
type launched struct {
	mu   sync.Mutex
	all  int64       // ever queued
	done int64       // of them, known to have ended
	last *hip.Kernel // the newest of all
}

// queue makes a call that queues n kernels.
func (l *launched) queue(n int64, last *hip.Kernel, call func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := call(); err != nil {
		return err
	}
	if n > 0 {
		l.all, l.last = l.all+n, last
	}
	return nil
}

// count returns how many kernels are ahead of what is queued next.
func (l *launched) count() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all
}

// ended is called when the first n kernels are known to have ended well.
func (l *launched) ended(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = max(l.done, n)
}

// blame says which kernels may have caused a fault. On a lent stream there are others too.
func (l *launched) blame(fault *DriverError, lent bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch n := l.all - l.done; {
	case n == 0:
		return fault
	case n == 1 && !lent:
		return fail.Kernel(l.last.Name, fault)
	default:
		return &FaultError{Launches: int(n), Last: l.last.Name, Err: fault}
	}
}
