package hiptest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip"
)

// NewFaulty returns a device that runs on d and fails one operation on request, with err.
// Use it to test that an error is reported, that nothing is leaked, and that the next call
// works. It passes on no abilities of d; a type that embeds it can add some, with Next.
//
// Its methods beyond those of a [hip.Device] are
//
//	FailAt(n int, ops ...string) (calls int)
//	Next(op string) error // counts an operation; the error with which it must fail, or nil
//
// FailAt makes the n-th operation from now fail, counted from 1; 0 lets all succeed. ops
// are the operations that count: "alloc", "free", "write", "read", "copy", "launch", "sync",
// or what Next is called with; without ops all count except free. FailAt returns how many
// operations counted since the last FailAt.
//
// An alloc that fails is a hip.ErrOutOfMemory too. A launch that fails has run half of its
// blocks, as it may happen on a GPU. A failing write or sync is still carried out. A failing
// free is not: whatever is in use after the test was leaked.
func NewFaulty(d hip.Device, err error) *faulty {
	f := &faulty{err: err}
	f.Device = failing{d, f}
	return f
}

// faulty has the methods that NewFaulty describes.
type faulty struct {
	hip.Device
	err error

	mu    sync.Mutex
	ops   []string
	left  int // until the one that fails; 0 or less: none fails
	calls int
}

func (f *faulty) FailAt(n int, ops ...string) (calls int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls, f.calls = f.calls, 0
	f.left, f.ops = n, ops // 0 counts down past the end
	return calls
}

func (f *faulty) Next(op string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.ops) == 0 && op == "free" || len(f.ops) > 0 && !slices.Contains(f.ops, op) {
		return nil
	}
	f.calls++
	if f.left--; f.left != 0 {
		f.left = max(f.left, -1)
		return nil
	}
	return fmt.Errorf("%s: %w", op, f.err)
}

// failing asks before each operation.
type failing struct {
	hip.Device
	faults *faulty
}

func (d failing) Alloc(n int64) (hip.Ptr, error) {
	if err := d.faults.Next("alloc"); err != nil {
		return 0, errors.Join(err, hip.ErrOutOfMemory)
	}
	return d.Device.Alloc(n)
}

func (d failing) Free(p hip.Ptr) error {
	if err := d.faults.Next("free"); err != nil {
		return err
	}
	return d.Device.Free(p)
}

func (d failing) Write(dst hip.Ptr, src []byte) error {
	return errors.Join(d.faults.Next("write"), d.Device.Write(dst, src))
}

func (d failing) Read(dst []byte, src hip.Ptr) error {
	if err := d.faults.Next("read"); err != nil {
		return err
	}
	return d.Device.Read(dst, src)
}

func (d failing) Copy(dst, src hip.Ptr, n int64) error {
	if err := d.faults.Next("copy"); err != nil {
		return err
	}
	return d.Device.Copy(dst, src, n)
}

func (d failing) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	if err := d.faults.Next("launch"); err != nil {
		grid.Blocks /= 2
		return errors.Join(fmt.Errorf("kernel %s: %w", k.Name, err), d.Device.Launch(k, grid, args))
	}
	return d.Device.Launch(k, grid, args)
}

func (d failing) Sync() error { return errors.Join(d.faults.Next("sync"), d.Device.Sync()) }
