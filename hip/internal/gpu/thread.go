package gpu

import (
	"runtime"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// The current device is a thread's, and goroutines change threads. Each call
// therefore keeps its thread, makes the device current there, and puts back what was:
// the thread may be one on which an engine has selected another device.

// thread is what a call has found on its thread.
type thread struct {
	device int32 // that was current; HIP
}

// enter begins a call. Until leave the device stays open and stays current on the
// goroutine's thread.
func (g *device) enter(op string) (t thread, err error) {
	g.using.RLock()
	if err = g.usable(); err == nil {
		if t, err = g.selectDevice(op); err == nil {
			return t, nil
		}
	}
	g.using.RUnlock()
	return t, err
}

func (g *device) leave(t thread) {
	g.deselect(t)
	g.using.RUnlock()
}

func (g *device) usable() error {
	if g.closed {
		return fail.Closed
	}
	if fault := g.fault.Load(); fault != nil {
		return *fault
	}
	return nil
}

// selectDevice makes the device current until deselect, which is not called if this
// fails.
func (g *device) selectDevice(op string) (t thread, err error) {
	runtime.LockOSThread()
	if g.driver.platform == platformCUDA {
		err = g.call(op, callPushContext, g.context)
	} else {
		found := new(int32)
		if err = g.call(op, callGetDevice, uintptr(unsafe.Pointer(found))); err == nil && int(*found) != g.about.Index {
			err = g.call(op, callSetDevice, uintptr(g.about.Index))
		}
		t.device = *found
	}
	if err != nil {
		runtime.UnlockOSThread()
	}
	return t, err
}

// deselect drops an error of the driver: the call has done its work, and the driver reports
// a fault to the next call again.
func (g *device) deselect(t thread) {
	if g.driver.platform == platformCUDA {
		popped := new(uintptr)
		_ = g.driver.call("leave", callPopContext, uintptr(unsafe.Pointer(popped)))
	} else if int(t.device) != g.about.Index {
		_ = g.driver.call("leave", callSetDevice, uintptr(t.device))
	}
	runtime.UnlockOSThread()
}
