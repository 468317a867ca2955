package hip

import (
	"errors"
	"fmt"
	"unsafe"
)

// refusing passes on what a device tells of itself. What it is made of adds what may
// be recorded; everything else is refused.
type refusing struct {
	device Device
}

func (r refusing) Info() Info               { return r.device.Info() }
func (r refusing) Alloc(int64) (Ptr, error) { return 0, recording("alloc") }
func (r refusing) Free(Ptr) error           { return recording("free") }
func (r refusing) Write(Ptr, []byte) error  { return recording("write") }
func (r refusing) Read([]byte, Ptr) error   { return recording("read") }
func (r refusing) Sync() error              { return recording("sync") }
func (r refusing) Close() error             { return recording("close") }

func recording(op string) error { return fmt.Errorf("%s: %w", op, ErrRecording) }

// recorder is the device that Capture hands out: the same memory and kernels, with
// a stream of its own that is being captured.
type recorder struct {
	refusing
	gpu     *gpu
	capture uintptr
	kernels launched // in the recording
}

func (r *recorder) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	return r.gpu.launchOn(r.capture, &r.kernels, k, grid, args)
}

func (r *recorder) Copy(dst, src Ptr, n int64) error { return r.gpu.copyOn(r.capture, dst, src, n) }

func (r *recorder) Stream() uintptr { return r.capture }

// graph is a recorded sequence of one device.
type graph struct {
	gpu        *gpu
	executable uintptr
	kernels    int64
	last       *Kernel // nil: copies only
}

func (g *gpu) Capture(record func(d Device) error) (Graph, error) {
	r := &recorder{refusing: refusing{g}, gpu: g}
	if err := r.begin(); err != nil {
		return nil, err
	}
	failed := record(r)
	made, err := r.end(failed == nil)
	if failed != nil || err != nil {
		return nil, errors.Join(failed, err)
	}
	return made, nil
}

// begin opens a stream whose work is recorded. In relaxed mode no call of another
// thread can break the recording.
func (r *recorder) begin() error {
	g := r.gpu
	t, err := g.enter("capture")
	if err != nil {
		return err
	}
	defer g.leave(t)
	const nonBlocking, relaxed = 1, 2
	if err := g.call("capture", callStreamCreate, uintptr(unsafe.Pointer(&r.capture)), nonBlocking); err != nil {
		return err
	}
	if err := g.call("capture", callCaptureBegin, r.capture, relaxed); err != nil {
		return joined(err, g.call("capture", callStreamDestroy, r.capture))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.recorders[r] = struct{}{}
	return nil
}

// end makes a graph of what was recorded, if it is wanted.
func (r *recorder) end(wanted bool) (made *graph, err error) {
	g := r.gpu
	g.using.RLock()
	defer g.using.RUnlock()
	if g.closed {
		return nil, ErrClosed // and Close has called abandon
	}
	t, err := g.selectDevice("capture")
	if err != nil {
		return nil, err
	}
	defer g.deselect(t)
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.recorders, r)
	var recorded uintptr
	err = g.call("capture", callCaptureEnd, r.capture, uintptr(unsafe.Pointer(&recorded)))
	if err == nil && wanted {
		made = &graph{gpu: g, kernels: r.kernels.count(), last: r.kernels.last}
		made.executable, err = g.driver.instantiate(recorded)
		err = g.noted(err)
	}
	if recorded != 0 {
		err = joined(err, g.call("capture", callGraphDestroy, recorded))
	}
	err = joined(err, g.call("capture", callStreamDestroy, r.capture))
	switch {
	case made == nil || made.executable == 0:
	case err == nil:
		g.graphs[made] = struct{}{}
	default: // what was recorded stays with the driver
		err = joined(err, made.destroy())
	}
	return made, err
}

// abandon drops what was recorded, when the device is closed meanwhile.
func (r *recorder) abandon() error {
	var recorded uintptr
	err := r.gpu.call("close", callCaptureEnd, r.capture, uintptr(unsafe.Pointer(&recorded)))
	if recorded != 0 {
		err = joined(err, r.gpu.call("close", callGraphDestroy, recorded))
	}
	return joined(err, r.gpu.call("close", callStreamDestroy, r.capture))
}

func (r *graph) Launch() error {
	g := r.gpu
	t, err := g.enter("launch graph")
	if err != nil {
		return err
	}
	defer g.leave(t)
	if err := r.queue(); err != nil || !g.blocking {
		return err
	}
	return g.waitForAll("launch graph")
}

// queue keeps the graph from being closed meanwhile.
func (r *graph) queue() error {
	r.gpu.mu.Lock()
	defer r.gpu.mu.Unlock()
	if _, live := r.gpu.graphs[r]; !live {
		return ErrClosed
	}
	return r.gpu.noted(r.gpu.launched.queue(r.kernels, r.last, func() error {
		return r.gpu.driver.call("launch graph", callGraphLaunch, r.executable, r.gpu.stream)
	}))
}

func (r *graph) Close() error {
	g := r.gpu
	g.using.RLock()
	defer g.using.RUnlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, live := g.graphs[r]; !live || g.closed {
		return ErrClosed
	}
	t, err := g.selectDevice("close graph")
	if err != nil {
		return err
	}
	defer g.deselect(t)
	delete(g.graphs, r)
	return joined(g.waitForAll("close graph"), r.destroy())
}

func (r *graph) destroy() error {
	return r.gpu.call("close graph", callGraphExecDestroy, r.executable)
}
