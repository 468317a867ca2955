package hip

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"sync"
	"unsafe"
)

// ErrMismatch is what a device computed otherwise than the reference.
var ErrMismatch = errors.New("differs from the reference")

// Mismatch names the first value of a launch that is out of bound.
type Mismatch struct {
	Kernel string
	Launch int    // counted from 1 over all launches of the checked device
	Field  string // the kernel argument behind which the value lies
	Index  int    // in values of the field's type, from where the kernel wrote

	Got, Want float64
	Bound     float64 // on |Got − Want|; 0 where values must be equal
}

func (e *Mismatch) Error() string {
	return fmt.Sprintf("kernel %s, launch %d: %s[%d] is %v, the reference has %v (bound on the difference %.3g)",
		e.Kernel, e.Launch, e.Field, e.Index, e.Got, e.Want, e.Bound)
}

func (e *Mismatch) Unwrap() error { return ErrMismatch }

// Check returns d with every launch repeated on the reference from the same
// input. A launch whose results differ by more than the kernel's MaxError, or
// in an integer, returns a [Mismatch]; the results of d stay in place, so the
// next kernel is again judged by itself. Launches run one at a time. Memory is
// needed twice, on d and in Go. Closing the result closes d.
//
// Check may be wrapped around a device at any point of a bug hunt, but before
// memory is allocated on it.
func Check(d Device) Device {
	c := &checked{Device: d, mirror: newMemory()}
	if a, ok := d.(Adopter); ok {
		return &checkedAdopter{checked: c, adopter: a}
	}
	return c
}

// checked mirrors d's memory under d's own addresses, so that arguments and
// tables of addresses in device memory mean the same on both sides.
type checked struct {
	Device
	mirror *memory

	mu       sync.Mutex
	launches int
}

type checkedAdopter struct {
	*checked
	adopter Adopter
}

func (c *checkedAdopter) Adopt(mem []byte, writable bool) (Ptr, error) {
	p, err := c.adopter.Adopt(mem, writable)
	if err != nil || p == 0 {
		return p, err
	}
	mirror := mem
	if writable { // the reference must not see d's results before they are compared
		if mirror, err = zeroed(int64(len(mem))); err != nil {
			return 0, errors.Join(err, c.Device.Free(p))
		}
		copy(mirror, mem)
	}
	return c.insert(p, goRegion(p, mirror, writable, true))
}

func (c *checked) Alloc(n int64) (Ptr, error) {
	p, err := c.Device.Alloc(n)
	if err != nil || p == 0 {
		return p, err
	}
	mirror, err := zeroed(n)
	if err != nil { // a GPU may have more memory than the host
		return 0, errors.Join(err, c.Device.Free(p))
	}
	return c.insert(p, goRegion(p, mirror, true, false))
}

func (c *checked) insert(p Ptr, r region) (Ptr, error) {
	if _, err := c.mirror.insert(r); err != nil {
		return 0, errors.Join(err, c.Device.Free(p))
	}
	return p, nil
}

func (c *checked) Free(p Ptr) error {
	// d may hand the address out again as soon as it has it back.
	return errors.Join(c.mirror.free(p), c.Device.Free(p))
}

func (c *checked) Write(dst Ptr, src []byte) error {
	if err := c.Device.Write(dst, src); err != nil {
		return err
	}
	return c.mirror.write(dst, src)
}

func (c *checked) Copy(dst, src Ptr, n int64) error {
	if err := c.Device.Copy(dst, src, n); err != nil {
		return err
	}
	return c.mirror.copyWithin(dst, src, n)
}

func (c *checked) InUse() (bytes int64, live int) {
	if a, ok := c.Device.(Accountant); ok {
		return a.InUse()
	}
	return c.mirror.inUse()
}

func (c *checked) Close() error {
	c.mirror.close()
	return c.Device.Close()
}

func (c *checked) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.launches++
	var writes writeLog
	ref := reference{cpu{mem: c.mirror}}
	refErr := ref.run(k, grid, args, &writes)
	failed := errors.Join(c.Device.Launch(k, grid, args), c.Device.Sync(), refErr)
	var first error
	for _, w := range writes.merged(c.mirror) {
		want, err := c.mirror.resolve("read", w.ptr, w.bytes(), true)
		if err != nil {
			return errors.Join(failed, err)
		}
		got := make([]byte, len(want))
		if err := c.Device.Read(got, w.ptr); err != nil {
			return errors.Join(failed, err)
		}
		if failed == nil && first == nil {
			first = c.compare(k, args, w, got, want)
		}
		copy(want, got)
	}
	return errors.Join(failed, first)
}

// compare applies the bound to one written range.
func (c *checked) compare(k *Kernel, args unsafe.Pointer, w write, got, want []byte) error {
	bound := 0.0
	if w.kind != kindExact {
		for i := range w.n {
			if v := math.Abs(w.kind.at(want, w.size, i)); v > bound && !math.IsInf(v, 0) {
				bound = v // never a NaN
			}
		}
		bound *= k.MaxError
		if w.kind == kindBF16 { // one step of the stored format
			bound = max(bound, bound/k.MaxError/128)
		}
	}
	for i := range w.n {
		if !w.kind.equal(got, want, w.size, i, bound) {
			return &Mismatch{
				Kernel: k.Name, Launch: c.launches, Field: fieldAt(k, args, w.ptr), Index: i,
				Got: w.kind.at(got, w.size, i), Want: w.kind.at(want, w.size, i), Bound: bound,
			}
		}
	}
	return nil
}

// fieldAt names the last pointer argument at or below p.
func fieldAt(k *Kernel, args unsafe.Pointer, p Ptr) string {
	v := reflect.NewAt(k.Args, args).Elem()
	name, best := "memory", Ptr(0)
	for i := range v.NumField() {
		if k.Args.Field(i).Type != reflect.TypeFor[Ptr]() {
			continue
		}
		if ptr := Ptr(v.Field(i).Uint()); ptr != 0 && ptr <= p && ptr >= best {
			name, best = k.Args.Field(i).Name, ptr
		}
	}
	return name
}
