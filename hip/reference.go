package hip

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"unsafe"

	"github.com/drafthead/drafthead/hip/internal/fail"
	"github.com/drafthead/drafthead/hip/internal/memory"
)

// NewReference returns the device that defines what every kernel computes: the
// plain Go twins in the caller's goroutine, with sums in float64, and every
// access checked against the live allocations.
func NewReference() Device {
	return &reference{cpu: cpu{mem: memory.New()}}
}

type reference struct {
	cpu
}

func (d *reference) Info() Info {
	return Info{Name: "reference (plain Go, float64 sums)", Kind: "reference", Threads: 1}
}

func (d *reference) Launch(k *Kernel, grid Grid, args unsafe.Pointer) error {
	return d.run(k, grid, args, nil)
}

func (d *reference) run(k *Kernel, grid Grid, args unsafe.Pointer, writes *writeLog) error {
	if err := checkGrid(k, grid); err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		return err
	}
	b := Blocks{End: grid.Blocks, mem: d.mem, scratch: new(scratch), shared: new(shared), writes: writes}
	return runBlocks(k, k.twin, &b, args)
}

func (d *reference) Close() error {
	if !d.mem.Close() {
		return ErrClosed
	}
	return nil
}

// cpu is what the CPU devices share: memory that is Go memory.
type cpu struct {
	mem *memory.Table
}

func (c *cpu) Alloc(n int64) (Ptr, error) { return allocate(c.mem, n) }
func (c *cpu) Free(p Ptr) error           { return free(c.mem, p) }

func (c *cpu) Write(dst Ptr, src []byte) error {
	return copying(func() error { return c.mem.Write(uint64(dst), src) })
}

func (c *cpu) Read(dst []byte, src Ptr) error {
	return copying(func() error { return c.mem.Read(dst, uint64(src)) })
}

func (c *cpu) Copy(dst, src Ptr, n int64) error {
	return copying(func() error { return c.mem.Copy(uint64(dst), uint64(src), n) })
}

func (c *cpu) Adopt(mem []byte, writable bool) (Ptr, error) { return adopt(c.mem, mem, writable) }
func (c *cpu) InUse() (bytes int64, live int)               { return c.mem.InUse() }
func (c *cpu) CheckRange(p Ptr, n int64, write bool) error  { return c.mem.Check(uint64(p), n, write) }

// Sync does not wait: launches end before Launch returns.
func (c *cpu) Sync() error {
	if c.mem.Closed() {
		return ErrClosed
	}
	return nil
}

func checkGrid(k *Kernel, grid Grid) error {
	if grid.Blocks < 0 || grid.Blocks > 1<<31-1 {
		return fail.Kernel(k.Name, fmt.Errorf("grid of %d blocks, want 0 to 2^31-1", grid.Blocks))
	}
	return nil
}

// runBlocks calls f and turns a bad access, found by a view, by Go's own bounds checks or by
// the system, into an error of the launch.
func runBlocks(k *Kernel, f func(*Blocks, unsafe.Pointer), b *Blocks, args unsafe.Pointer) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch e := recover().(type) {
		case nil:
		case memoryFault:
			err = fail.Kernel(k.Name, lost(e))
		case runtime.Error:
			err = fail.Kernel(k.Name, &badIndex{e})
		case error:
			err = fail.Kernel(k.Name, e)
		default:
			panic(e)
		}
	}()
	f(b, args)
	return nil
}

// memoryFault is what Go panics with where the system has no memory at an address, in a
// goroutine that asked for it with SetPanicOnFault. Otherwise the program ends.
type memoryFault interface {
	runtime.Error
	Addr() uintptr
}

// lost is the error of a fault: memory that was adopted, a mapped file, may lose its bytes.
func lost(e memoryFault) error {
	return fail.With(fail.Access, "memory at %#x is gone, as that of a mapped file that is cut short", e.Addr())
}

// copying calls f, which copies memory, and returns an error where that is gone.
func copying(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch e := recover().(type) {
		case nil:
		case memoryFault:
			err = lost(e)
		default:
			panic(e)
		}
	}()
	return f()
}

// badIndex is an index outside of a view, which Go itself has found.
type badIndex struct {
	found runtime.Error
}

func (e *badIndex) Error() string   { return e.Bare() }
func (e *badIndex) Bare() string    { return fail.Access.Bare() + ": " + e.found.Error() }
func (e *badIndex) Unwrap() []error { return []error{fail.Access, e.found} }
