package hip

import (
	"fmt"
	"runtime"
	"unsafe"
)

// NewReference returns the device that defines what every kernel computes: the
// plain Go twins in the caller's goroutine, with sums in float64, and every
// access checked against the live allocations.
func NewReference() Device {
	return &reference{cpu: cpu{mem: newMemory()}}
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
	b := Blocks{End: grid.Blocks, mem: d.mem, scratch: new(scratch), writes: writes}
	return runBlocks(k, k.twin, &b, args)
}

func (d *reference) Close() error {
	if !d.mem.close() {
		return ErrClosed
	}
	return nil
}

// cpu is what the CPU devices share: memory that is Go memory.
type cpu struct {
	mem *memory
}

func (c *cpu) Alloc(n int64) (Ptr, error)                   { return c.mem.alloc(n) }
func (c *cpu) Free(p Ptr) error                             { return c.mem.free(p) }
func (c *cpu) Write(dst Ptr, src []byte) error              { return c.mem.write(dst, src) }
func (c *cpu) Read(dst []byte, src Ptr) error               { return c.mem.read(dst, src) }
func (c *cpu) Copy(dst, src Ptr, n int64) error             { return c.mem.copyWithin(dst, src, n) }
func (c *cpu) Adopt(mem []byte, writable bool) (Ptr, error) { return c.mem.adopt(mem, writable) }
func (c *cpu) InUse() (bytes int64, live int)               { return c.mem.inUse() }

// Sync has nothing to wait for: launches end before Launch returns.
func (c *cpu) Sync() error {
	if c.mem.regions.Load() == nil {
		return ErrClosed
	}
	return nil
}

func checkGrid(k *Kernel, grid Grid) error {
	if grid.Blocks < 0 || grid.Blocks > 1<<31-1 {
		return &LaunchError{Kernel: k.Name, Err: fmt.Errorf("grid of %d blocks, want 0 to 2^31-1", grid.Blocks)}
	}
	return nil
}

// runBlocks calls f and turns a bad access, found by a view or by Go's own
// bounds checks, into an error of the launch.
func runBlocks(k *Kernel, f func(*Blocks, unsafe.Pointer), b *Blocks, args unsafe.Pointer) (err error) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *AccessError:
			err = &LaunchError{Kernel: k.Name, Err: e}
		case runtime.Error:
			err = &LaunchError{Kernel: k.Name, Err: fmt.Errorf("%w: %w", ErrAccess, e)}
		case error:
			err = &LaunchError{Kernel: k.Name, Err: e}
		default:
			panic(e)
		}
	}()
	f(b, args)
	return nil
}
