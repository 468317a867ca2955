package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/drafthead/drafthead/hip"
)

// ErrDeviceName is a -device flag that names no device.
var ErrDeviceName = errors.New("want cpu, reference or hip[:n]")

// DeviceVar defines the -device flag, whose value goes to name. One that names no
// device is wrong usage; whether a GPU is there [Device] finds out.
func DeviceVar(flags *flag.FlagSet, name *string) {
	*name = "cpu"
	flags.Var((*deviceName)(name), "device", "`device` that runs the head: cpu, reference (plain float64 twins, slow), or hip[:n], GPU n through HIP or CUDA")
}

// deviceName is the value of a -device flag.
type deviceName string

func (d *deviceName) String() string {
	if d == nil {
		return ""
	}
	return string(*d)
}

func (d *deviceName) Set(name string) error {
	_, _, err := parseDevice(name)
	*d = deviceName(name)
	return err
}

// parseDevice returns the kind of the named device, and the number of a GPU.
func parseDevice(name string) (kind string, number int, err error) {
	kind, text, numbered := strings.Cut(name, ":")
	switch {
	case !numbered && (kind == "cpu" || kind == "reference" || kind == "hip"):
		return kind, 0, nil
	case kind == "hip":
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			return kind, n, nil
		}
	}
	return "", 0, ErrDeviceName
}

// Device opens the device that a -device flag names. The caller closes it. A GPU that
// is not there is a [hip.ErrNoDevice].
func Device(name string) (hip.Device, error) {
	kind, number, err := parseDevice(name)
	var d hip.Device
	switch kind {
	case "cpu":
		d = hip.NewHost()
	case "reference":
		d = hip.NewReference()
	case "hip":
		d, err = hip.Open(number)
	}
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", name, err)
	}
	return d, nil
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
