package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/drafthead/drafthead/hip"
)

// DeviceUsage describes the values of a -device flag.
const DeviceUsage = "`device` that runs the head: cpu, reference (plain float64 twins, slow), or hip[:n], GPU n through HIP or CUDA"

// ErrDeviceName is a -device flag that names no device.
var ErrDeviceName = errors.New("want cpu, reference or hip[:n]")

// Device opens the device that a -device flag names. The caller closes it. A GPU that
// is not there is a [hip.ErrNoDevice].
func Device(name string) (hip.Device, error) {
	switch kind, number, numbered := strings.Cut(name, ":"); kind {
	case "cpu", "reference":
		if numbered {
			break
		}
		if kind == "cpu" {
			return hip.NewHost(), nil
		}
		return hip.NewReference(), nil
	case "hip":
		if !numbered {
			number = "0"
		}
		n, err := strconv.Atoi(number)
		if err != nil || n < 0 {
			break
		}
		d, err := hip.Open(n)
		if err != nil {
			return nil, fmt.Errorf("device %s: %w", name, err)
		}
		return d, nil
	}
	return nil, fmt.Errorf("device %q: %w", name, ErrDeviceName)
}

// Compile has a GPU compile all kernels of the program, with a bar on w: the first
// time takes seconds. Other devices compile nothing.
func Compile(ctx context.Context, w io.Writer, d hip.Device) error {
	c, ok := d.(hip.Compiler)
	if !ok {
		return nil
	}
	kernels := hip.Kernels()
	progress, done := Progress(w, "compile", "kernels")
	defer done()
	var mu sync.Mutex
	var errs []error
	ready, todo := 0, make(chan *hip.Kernel, len(kernels))
	for _, k := range kernels {
		todo <- k
	}
	close(todo)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for k := range todo {
				err := c.Compile(ctx, k)
				mu.Lock()
				ready++
				errs = append(errs, err)
				progress(int64(ready), int64(len(kernels)))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.Join(errs...)
}
