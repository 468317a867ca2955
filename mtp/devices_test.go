package mtp_test

import (
	"errors"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// counting is a device that counts its launches.
type counting struct {
	hip.Device
	launches int
}

func (c *counting) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	c.launches++
	return c.Device.Launch(k, grid, args)
}

// errDevice is what a faulty device fails with.
var errDevice = errors.New("device fell off the bus")

// faulty is a device of which one operation fails: the one that failIn more
// come before. Free and Close always work, as they must for an owner to be able
// to clean up.
type faulty struct {
	hip.Device

	mu     sync.Mutex
	failIn int // negative: never
	failed string
	queued bool // something, and not waited for
}

// arm makes the operation after n more fail.
func (f *faulty) arm(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failIn, f.failed, f.queued = n, "", false
}

// disarm makes all operations work, and returns which one failed, if any.
func (f *faulty) disarm() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failIn = -1
	return f.failed
}

// busy reports whether something was queued that nobody has waited for.
func (f *faulty) busy() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.queued
}

func (f *faulty) next(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch op {
	case "alloc", "adopt":
	default:
		f.queued = op != "sync" && op != "read"
	}
	f.failIn--
	if f.failIn != -1 {
		f.failIn = max(f.failIn, -2)
		return nil
	}
	f.failed = op
	return errDevice
}

func (f *faulty) Alloc(n int64) (hip.Ptr, error) {
	if err := f.next("alloc"); err != nil {
		return 0, err
	}
	return f.Device.Alloc(n)
}

func (f *faulty) Write(dst hip.Ptr, src []byte) error {
	return errors.Join(f.next("write"), f.Device.Write(dst, src))
}

func (f *faulty) Read(dst []byte, src hip.Ptr) error {
	if err := f.next("read"); err != nil {
		return err
	}
	return f.Device.Read(dst, src)
}

func (f *faulty) Copy(dst, src hip.Ptr, n int64) error {
	if err := f.next("copy"); err != nil {
		return err
	}
	return f.Device.Copy(dst, src, n)
}

// Launch runs a kernel that fails for half of its blocks, as a GPU might.
func (f *faulty) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	if err := f.next("launch " + k.Name); err != nil {
		grid.Blocks /= 2
		return errors.Join(err, f.Device.Launch(k, grid, args))
	}
	return f.Device.Launch(k, grid, args)
}

func (f *faulty) Sync() error {
	return errors.Join(f.next("sync"), f.Device.Sync())
}

// faultyAdopter is a faulty device that uses memory in place.
type faultyAdopter struct {
	*faulty
}

func (f faultyAdopter) Adopt(mem []byte, writable bool) (hip.Ptr, error) {
	if err := f.next("adopt"); err != nil {
		return 0, err
	}
	return hip.Adopt(f.Device, mem, writable)
}
