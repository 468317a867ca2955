package hip

import (
	"errors"
	"math"
	"reflect"
	"sync"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

// Check returns d with every launch repeated on the reference from the same input. A
// launch whose results differ by more than the kernel's bound, or in an integer, returns
// an error that names the kernel, the launch, the argument and the first value
// that differs. The results of d stay in place, so the next kernel is again judged by
// itself.
//
// It is slow by design. Launches run one at a time. Before each, Check reads the memory
// that others may write: imports, shared memory and memory adopted for writing. After each,
// it copies back every range that was written. It needs the memory twice, on d and in Go.
// Closing the result closes d.
//
// [As] finds the abilities of d, but a [Replayer] records no graphs: launches within a
// graph cannot be compared one by one.
//
// Wrap the device before any memory is allocated on it.
func Check(d Device) Device {
	return &checked{Device: d, mirror: memory.New(), foreign: make(map[Ptr][]byte)}
}

// checked mirrors d's memory under d's own addresses, so that arguments and
// tables of addresses in device memory mean the same on both sides.
//
// Invariant: before a launch the mirror equals d's memory. Launches, writes and copies keep
// it so. Memory that the host or an engine's kernels write by themselves is foreign:
// refresh reads it.
type checked struct {
	Device
	mirror *memory.Table

	mu       sync.Mutex     // held by what must see the mirror at rest
	foreign  map[Ptr][]byte // by address: the host's side of it, or nil where d is to be read
	launches int
}

func (c *checked) Alloc(n int64) (Ptr, error) {
	p, err := c.Device.Alloc(n)
	if err != nil || p == 0 {
		return p, err
	}
	if err := c.insert(p, n, true, false); err != nil {
		return 0, err
	}
	return p, nil
}

// insert adds a mirror of zeros for memory of d. On an error it frees the memory.
func (c *checked) insert(p Ptr, n int64, writable, adopted bool) error {
	mem, err := zeroed(n) // a GPU may have more memory than the host
	if err == nil {
		err = c.mirror.Insert(goRegion(p, mem, writable, adopted))
	}
	if err != nil {
		return errors.Join(err, c.Device.Free(p))
	}
	return nil
}

// insertForeign is insert for memory that others write. host is their side of it.
func (c *checked) insertForeign(p Ptr, n int64, adopted bool, host []byte) error {
	if err := c.insert(p, n, true, adopted); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.foreign[p] = host
	return nil
}

// refresh copies foreign memory into the mirror, with mu held. All work of d was waited for
// by then; Read waits for an engine's work on d's stream.
func (c *checked) refresh() error {
	for p, host := range c.foreign {
		r, err := c.mirror.Lookup("read", uint64(p), 0, false)
		if err != nil {
			return err
		}
		if host != nil {
			copy(r.Mem, host)
		} else if err := c.Device.Read(r.Mem, p); err != nil {
			return err
		}
	}
	return nil
}

func (c *checked) Free(p Ptr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p == 0 {
		return c.Device.Free(p)
	}
	// d may hand the address out again as soon as it has it back.
	removed, err := c.mirror.Remove(uint64(p))
	if failed := c.Device.Free(p); failed != nil {
		if err == nil && !errors.Is(failed, ErrAccess) && !errors.Is(failed, ErrClosed) {
			err = c.mirror.Insert(removed) // it is still there
		}
		return errors.Join(err, failed)
	}
	if r, gone := c.mirror.Lookup("free", uint64(p), 0, false); gone != nil || Ptr(r.Base) != p {
		delete(c.foreign, p) // the last of several adoptions
	}
	return err
}

func (c *checked) Write(dst Ptr, src []byte) error {
	if err := c.Device.Write(dst, src); err != nil {
		return err
	}
	return c.mirror.Write(uint64(dst), src)
}

func (c *checked) Copy(dst, src Ptr, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil {
		return err
	}
	if err := c.Device.Copy(dst, src, n); err != nil {
		return err
	}
	return c.mirror.Copy(uint64(dst), uint64(src), n)
}

func (c *checked) Close() error {
	c.mirror.Close()
	return c.Device.Close()
}

func (c *checked) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.launches++
	if err := c.refresh(); err != nil {
		return err
	}
	var writes writeLog
	ref := reference{cpu{mem: c.mirror}}
	refErr := ref.run(k, grid, args, &writes)
	failed := errors.Join(c.Device.Launch(k, grid, args), c.Device.Sync(), refErr)
	var first error
	for _, w := range writes.merged(c.mirror) {
		want, err := c.mirror.Resolve("read", uint64(w.ptr), w.bytes(), true)
		if err != nil {
			return errors.Join(failed, err)
		}
		got := make([]byte, len(want))
		if err := c.Device.Read(got, w.ptr); err != nil {
			return errors.Join(failed, err)
		}
		if failed == nil && first == nil {
			first = c.compare(k, grid, args, w, got, want)
		}
		copy(want, got)
	}
	return errors.Join(failed, first)
}

// compare applies the bound to one written range.
func (c *checked) compare(k *Kernel, grid Grid, args unsafe.Pointer, w write, got, want []byte) error {
	bound := 0.0
	if w.kind != kindExact {
		for i := range w.n {
			if v := math.Abs(w.kind.at(want, w.size, i)); v > bound && !math.IsInf(v, 0) {
				bound = v // never a NaN
			}
		}
		largest := bound
		bound *= max(k.maxError, c.Info().Activations.maxError(), grid.Activations.maxError())
		if w.kind == kindBF16 { // one step of the stored format
			bound = max(bound, largest/128)
		}
	}
	for i := range w.n {
		if !w.kind.equal(got, want, w.size, i, bound) {
			differs := fail.With(fail.Mismatch, "%s[%d] is %v, the reference has %v (bound on the difference %.3g)",
				fieldAt(k, args, w.ptr), i, w.kind.at(got, w.size, i), w.kind.at(want, w.size, i), bound)
			return fail.Kernel(k.Name, fail.With(differs, "launch %d", c.launches))
		}
	}
	return nil
}

// fieldAt names the last pointer argument at or below p.
func fieldAt(k *Kernel, args unsafe.Pointer, p Ptr) string {
	v := reflect.NewAt(k.args, args).Elem()
	name, best := "memory", Ptr(0)
	for i := range v.NumField() {
		if k.args.Field(i).Type != reflect.TypeFor[Ptr]() {
			continue
		}
		if ptr := Ptr(v.Field(i).Uint()); ptr != 0 && ptr <= p && ptr >= best {
			name, best = k.args.Field(i).Name, ptr
		}
	}
	return name
}

// As is what the function [As] calls. Abilities that add memory, or write to it, do the
// same to the mirror.
func (c *checked) As(ability any) bool {
	to := reflect.ValueOf(ability).Elem()
	for _, offered := range c.abilities() {
		if v := reflect.ValueOf(offered); v.Type().Implements(to.Type()) {
			to.Set(v)
			return true
		}
	}
	return false
}

// abilities returns what c offers beside its own methods. Each struct embeds one ability
// and so has the methods of that one only.
func (c *checked) abilities() (offered []any) {
	if own, ok := As[adopter](c.Device); ok {
		offered = append(offered, struct{ adopter }{checkedAdopter{c, own}})
	}
	if own, ok := As[importer](c.Device); ok {
		offered = append(offered, struct{ importer }{checkedImporter{own, c}})
	}
	if own, ok := As[sharer](c.Device); ok {
		offered = append(offered, struct{ sharer }{checkedSharer{c, own}})
	}
	if own, ok := As[filler](c.Device); ok {
		offered = append(offered, struct{ filler }{checkedFiller{c, own}})
	}
	if own, ok := As[compiler](c.Device); ok {
		offered = append(offered, struct{ compiler }{own})
	}
	if own, ok := As[timer](c.Device); ok {
		offered = append(offered, struct{ timer }{own})
	}
	return offered
}

func (c *checked) InUse() (bytes int64, live int) {
	if a, ok := As[accountant](c.Device); ok {
		return a.InUse()
	}
	return c.mirror.InUse()
}

// CheckRange asks the mirror, which knows all memory of the device.
func (c *checked) CheckRange(p Ptr, n int64, write bool) error {
	return c.mirror.Check(uint64(p), n, write)
}

type checkedAdopter struct {
	c   *checked
	own adopter
}

func (a checkedAdopter) Adopt(mem []byte, writable bool) (Ptr, error) {
	p, err := a.own.Adopt(mem, writable)
	if err != nil || p == 0 {
		return p, err
	}
	if writable { // the reference must not see d's results before they are compared
		err = a.c.insertForeign(p, int64(len(mem)), true, mem)
	} else if err = a.c.mirror.Insert(goRegion(p, mem, false, true)); err != nil {
		err = errors.Join(err, a.c.Device.Free(p))
	}
	if err != nil {
		return 0, err
	}
	return p, nil
}

type checkedImporter struct {
	importer
	c *checked
}

func (a checkedImporter) Import(p Ptr, n int64) error {
	if err := a.importer.Import(p, n); err != nil {
		return err
	}
	return a.c.insertForeign(p, n, true, nil)
}

type checkedSharer struct {
	c   *checked
	own sharer
}

func (a checkedSharer) AllocShared(n int64) (Ptr, []byte, error) {
	p, host, err := a.own.AllocShared(n)
	if err != nil {
		return 0, nil, err
	}
	if err := a.c.insertForeign(p, n, false, host); err != nil {
		return 0, nil, err
	}
	return p, host, nil
}

type checkedFiller struct {
	c   *checked
	own filler
}

func (a checkedFiller) Fill(dst Ptr, n int64, read func(part []byte, off int64) error) error {
	return a.own.Fill(dst, n, func(part []byte, off int64) error {
		if err := read(part, off); err != nil {
			return err
		}
		return a.c.mirror.Write(uint64(dst.Add(off)), part)
	})
}
