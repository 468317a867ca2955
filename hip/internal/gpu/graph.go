package gpu

import (
	"errors"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/internal/fail"
)

// A graph is recorded by capturing a stream of its own: the driver notes what is queued on
// that stream and does not run it, while the device's own stream works on. Its life is
//
//	begin    a stream, captured from now on        recorders holds the recorder
//	record   the caller's launches and copies
//	end      the stream's work becomes a graph, the graph an executable one;
//	         stream and graph are given back       graphs holds the executable one
//	launch   queues it on the device's stream, any number of times
//	release  waits for it and gives it back
//
// Invariant: Close gives back what the two sets hold, at any point. What is in neither set
// belongs to the call under way.

// recorder is the device that Capture hands out: the same memory and kernels, with a
// stream of its own that is being captured. It launches and copies. Everything else is
// refused: the driver would run it at once, outside of the recording, or end the capture.
type recorder struct {
	gpu     *device
	capture uintptr
	kernels launched // in the recording, not in the device's stream
}

func (r *recorder) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	return r.gpu.launchOn(r.capture, &r.kernels, k, grid, args)
}

func (r *recorder) Copy(dst, src hip.Ptr, n int64) error { return r.gpu.copyOn(r.capture, dst, src, n) }

func (r *recorder) Stream() uintptr              { return r.capture }
func (r *recorder) Info() hip.Info               { return r.gpu.Info() }
func (r *recorder) Alloc(int64) (hip.Ptr, error) { return 0, recording("alloc") }
func (r *recorder) Free(hip.Ptr) error           { return recording("free") }
func (r *recorder) Write(hip.Ptr, []byte) error  { return recording("write") }
func (r *recorder) Read([]byte, hip.Ptr) error   { return recording("read") }
func (r *recorder) Sync() error                  { return recording("sync") }
func (r *recorder) Close() error                 { return recording("close") }

func recording(op string) error { return fail.With(fail.Recording, "%s", op) }

// graph is a recorded sequence of one device. Its kernels count as queued when it is
// launched: a fault of one of them is blamed on the device's stream.
type graph struct {
	gpu        *device
	executable uintptr
	kernels    int64
	last       *hip.Kernel // nil: copies only
}

func (g *device) Capture(record func(d hip.Device) error) (launch, release func() error, err error) {
	r := &recorder{gpu: g}
	if err := r.begin(); err != nil {
		return nil, nil, err
	}
	failed := record(r)
	made, err := r.end(failed == nil)
	if failed != nil || err != nil {
		return nil, nil, errors.Join(failed, err)
	}
	return made.launch, made.release, nil
}

// begin opens a stream whose work is recorded. In relaxed mode no call of another thread
// can break the recording: others go on to allocate and to load modules meanwhile.
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

// end makes a graph of what was recorded, if it is wanted. It ends the capture whatever
// happened before, after a fault too, and so enters the device without asking whether it
// is usable. Until the executable graph exists the recorded one is needed, then only it:
// the order below gives both and the stream back on every path.
func (r *recorder) end(wanted bool) (made *graph, err error) {
	g := r.gpu
	g.using.RLock()
	defer g.using.RUnlock()
	if g.closed {
		return nil, fail.Closed // and Close has called abandon
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
	default: // a part of the recording stays with the driver, so nobody may launch it
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

func (r *graph) launch() error {
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

// queue holds the device's mu, so that the graph is not closed between the check and the
// call: the driver does not notice that a graph was given back.
func (r *graph) queue() error {
	r.gpu.mu.Lock()
	defer r.gpu.mu.Unlock()
	if _, live := r.gpu.graphs[r]; !live {
		return fail.Closed
	}
	return r.gpu.noted(r.gpu.launched.queue(r.kernels, r.last, func() error {
		return r.gpu.driver.call("launch graph", callGraphLaunch, r.executable, r.gpu.stream)
	}))
}

// release waits for the stream first: a graph may be queued still, and giving back one that
// runs is undefined on some drivers.
func (r *graph) release() error {
	g := r.gpu
	g.using.RLock()
	defer g.using.RUnlock()
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, live := g.graphs[r]; !live || g.closed {
		return fail.Closed
	}
	t, err := g.selectDevice("close graph")
	if err != nil {
		return err
	}
	defer g.deselect(t)
	waited := g.waitForAll("close graph")
	if waited != nil && g.fault.Load() == nil {
		return waited // it may run
	}
	err = joined(waited, r.destroy())
	if err == nil || g.fault.Load() != nil { // otherwise it is still there
		delete(g.graphs, r)
	}
	return err
}

func (r *graph) destroy() error {
	return r.gpu.call("close graph", callGraphExecDestroy, r.executable)
}
