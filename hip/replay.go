package hip

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/fail"
)

// Replayer launches sequences of kernels that come again and again. On a GPU it records a
// sequence that comes a second time as a graph, which then costs one launch. On other
// devices it launches sequences as they are.
//
// It uses a graph only for a sequence whose kernels, grids and arguments are the recorded
// ones, byte for byte. Only the contents of memory may differ.
//
// Only one goroutine may use a Replayer at a time.
type Replayer struct {
	device   Device
	capturer capturer // nil: there are no graphs
	guard    addressGuard
	limit    int
	known    map[string]*sequence
	runs     uint64
	list     launchList
}

// sequence is one that came before.
type sequence struct {
	launch, release func() error // of the graph; nil: it came once

	last  uint64 // run
	freed uint64 // of the guard, when all addresses were last known to be memory's
}

// addressGuard is a device that checks the addresses of a launch. A graph's launch does not
// check them, so Run does it when memory was freed since the last check.
type addressGuard interface {
	// Freed counts what was freed: as long as it stays the same, addresses that were
	// memory's are.
	Freed() uint64
	CheckAddresses(k *Kernel, args unsafe.Pointer) error
	CheckCopy(dst, src Ptr, n int64) error
}

// NewReplayer returns a Replayer for d that keeps up to limit sequences, the most recent
// ones.
func NewReplayer(d Device, limit int) *Replayer {
	r := &Replayer{device: d, limit: limit, known: make(map[string]*sequence), list: launchList{refusing: refusing{d}}}
	r.capturer, _ = As[capturer](d)
	r.guard, _ = As[addressGuard](d)
	return r
}

// Run queues what launch launches. It calls launch up to twice, with a device that stands
// for the Replayer's; both calls must launch the same sequence. If there are graphs, that
// device accepts only Launch, Copy and Info.
func (r *Replayer) Run(launch func(d Device) error) error {
	if r.capturer == nil {
		return launch(r.device)
	}
	r.list.bytes = r.list.bytes[:0]
	if err := launch(&r.list); err != nil {
		return err
	}
	r.runs++
	s := r.known[string(r.list.bytes)]
	if s == nil {
		if err := r.makeRoom(); err != nil {
			return err
		}
		r.known[string(r.list.bytes)] = &sequence{last: r.runs}
		return launch(r.device)
	}
	s.last = r.runs
	var freed uint64
	if r.guard != nil {
		freed = r.guard.Freed()
	}
	if s.launch == nil {
		var err error
		if s.launch, s.release, err = r.capturer.Capture(launch); err != nil {
			s.launch, s.release = nil, nil
			return err
		}
	} else if freed != s.freed {
		if err := launch(addressCheck{refusing{r.device}, r.guard}); err != nil {
			return err
		}
	}
	s.freed = freed
	return s.launch()
}

// makeRoom drops the sequence that came least recently, once there are too many.
func (r *Replayer) makeRoom() error {
	if len(r.known) < r.limit {
		return nil
	}
	var oldest string
	for key, s := range r.known {
		if o := r.known[oldest]; o == nil || s.last < o.last {
			oldest = key
		}
	}
	if err := r.known[oldest].close(); err != nil {
		return err
	}
	delete(r.known, oldest)
	return nil
}

func (s *sequence) close() error {
	if s == nil || s.release == nil {
		return nil
	}
	return s.release()
}

// Close frees the graphs, after the work queued before. The Replayer can still be used. What
// the device could not free, which is the error then, the next Close frees.
func (r *Replayer) Close() error {
	var errs []error
	for key, s := range r.known {
		err := s.close()
		if err == nil || errors.Is(err, ErrClosed) { // with the device
			delete(r.known, key)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// refusing is a Device that passes on Info and refuses everything else. Types that embed it
// add the calls that can be recorded.
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

func recording(op string) error { return fail.With(fail.Recording, "%s", op) }

// launchList notes launches and runs none.
type launchList struct {
	refusing
	bytes []byte
}

func (l *launchList) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	l.words(uint64(uintptr(unsafe.Pointer(k))), uint64(grid.Blocks), uint64(grid.Threads))
	l.bytes = append(l.bytes, unsafe.Slice((*byte)(args), k.args.Size())...)
	return nil
}

// Copy begins with a zero, so that it never equals a kernel's launch.
func (l *launchList) Copy(dst, src Ptr, n int64) error {
	l.words(0, uint64(dst), uint64(src), uint64(n))
	return nil
}

// collect begins with a one, so that it never equals a kernel's launch.
func (l *launchList) collect(g *Group, c *collection) error {
	l.words(1, uint64(uintptr(unsafe.Pointer(g))), uint64(c.op), uint64(c.dst), uint64(c.src), uint64(c.n), uint64(c.root))
	return nil
}

// addressCheck checks the addresses of launches and runs none.
type addressCheck struct {
	refusing
	guard addressGuard
}

func (c addressCheck) Launch(k *Kernel, _ Grid, args unsafe.Pointer) error {
	return c.guard.CheckAddresses(k, args)
}

func (c addressCheck) Copy(dst, src Ptr, n int64) error { return c.guard.CheckCopy(dst, src, n) }

func (c addressCheck) collect(g *Group, op *collection) error { return g.check(op) }

func (l *launchList) words(values ...uint64) {
	for _, v := range values {
		l.bytes = binary.NativeEndian.AppendUint64(l.bytes, v)
	}
}
