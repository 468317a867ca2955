package hip

import (
	"errors"
	"sync"
)

// call calls the driver for the device, whose current thread this is. Of a kernel's
// fault whatever call comes next may tell; it is kept whichever does.
//
//go:uintptrescapes
func (g *gpu) call(op string, c call, args ...uintptr) error {
	return g.noted(g.driver.call(op, c, args...))
}

// noted keeps a fault, and returns the first one in place of it.
func (g *gpu) noted(err error) error {
	fault := faultOf(err)
	if fault == nil {
		return err
	}
	blamed := g.launched.blame(fault, g.lent)
	g.fault.CompareAndSwap(nil, &blamed)
	return *g.fault.Load()
}

// faultOf returns the error if it is one behind which a device does nothing more. The
// platforms have the same numbers.
func faultOf(err error) *DriverError {
	e, ok := errors.AsType[*DriverError](err)
	if !ok {
		return nil
	}
	switch e.Code {
	case 214, // memory error that cannot be corrected
		226, // error that was contained
		700, // illegal address
		702, // the launch took too long
		710, // assertion
		714, // of the hardware's stack
		715, // illegal instruction
		716, // misaligned address
		717, // address of the wrong memory
		718, // illegal program counter
		719, // the launch failed
		721: // memory of the tensor units that was left
		return e
	}
	return nil
}

// joined is errors.Join without what is there already, as a fault is that several calls
// tell of.
func joined(errs ...error) error {
	var all error
	for _, err := range errs {
		if err != nil && !errors.Is(all, err) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// launched counts the kernels in a stream, so that a fault is blamed on those that
// may have caused it.
type launched struct {
	mu   sync.Mutex
	all  int64   // ever queued
	done int64   // of them, known to have ended
	last *Kernel // the newest of all
}

// queue makes a call that queues n kernels.
func (l *launched) queue(n int64, last *Kernel, call func() error) error {
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

// blame says which kernels a fault may be of. On a lent stream there are others too.
func (l *launched) blame(fault *DriverError, lent bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch n := l.all - l.done; {
	case n == 0:
		return fault
	case n == 1 && !lent:
		return &LaunchError{Kernel: l.last.Name, Err: fault}
	default:
		return &FaultError{Launches: int(n), Last: l.last.Name, Err: fault}
	}
}
