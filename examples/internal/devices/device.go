// Package devices is the -device flag of the programs: the one place that gives them GPUs.
package devices

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	_ "github.com/drafthead/drafthead/hip/gpu" // for hip.Open
)

// ErrName is a -device flag that does not name a device.
var ErrName = errors.New("want cpu, reference or hip[:n]")

// Var defines the -device flag, whose value goes to name. A value that does not name a
// device is wrong usage; [Open] finds out whether a GPU is there.
func Var(flags *flag.FlagSet, name *string) {
	*name = "cpu"
	flags.Var((*flagValue)(name), "device", "`device` that runs the head: cpu, reference (plain float64 twins, slow), or hip[:n], GPU n through HIP or CUDA")
}

// flagValue is the value of a -device flag.
type flagValue string

func (d *flagValue) String() string {
	if d == nil {
		return ""
	}
	return string(*d)
}

func (d *flagValue) Set(name string) error {
	_, _, err := parse(name)
	*d = flagValue(name)
	return err
}

// parse returns the kind of the named device, and the number of a GPU.
func parse(name string) (kind string, number int, err error) {
	kind, text, numbered := strings.Cut(name, ":")
	switch {
	case !numbered && (kind == "cpu" || kind == "reference" || kind == "hip"):
		return kind, 0, nil
	case kind == "hip":
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			return kind, n, nil
		}
	}
	return "", 0, ErrName
}

// Open opens the device that a -device flag names. The caller closes it. A GPU that
// is not there is a [hip.ErrNoDevice].
func Open(name string) (hip.Device, error) {
	kind, number, err := parse(name)
	var d hip.Device
	switch kind {
	case "cpu":
		d = hip.NewHost()
	case "reference":
		d = hip.NewReference()
	case "hip":
		d, err = hip.Open(number, hip.OpenOptions{Logger: slog.Default()})
	}
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", name, err)
	}
	return d, nil
}

// OpenAll opens n devices from the named one on: GPUs of the numbers that follow, or CPU
// devices that share the cores. The caller closes them.
func OpenAll(name string, n int) (opened []hip.Device, err error) {
	for i := range n {
		d, err := OpenNth(name, i, n)
		if err != nil {
			for _, d := range opened {
				err = errors.Join(err, d.Close())
			}
			return nil, err
		}
		opened = append(opened, d)
	}
	return opened, nil
}

// OpenNth opens the one of OpenAll with number i.
func OpenNth(name string, i, n int) (d hip.Device, err error) {
	if n == 1 {
		return Open(name)
	}
	kind, number, err := parse(name)
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", name, err)
	}
	switch kind {
	case "cpu":
		return hip.NewHost(max(1, runtime.GOMAXPROCS(0)/n)), nil
	case "reference":
		return hip.NewReference(), nil
	}
	if d, err = Open(fmt.Sprintf("hip:%d", number+i)); err != nil {
		err = fmt.Errorf("%d devices from %q on: %w", n, name, err)
	}
	return d, err
}

// Compile makes a GPU compile all kernels of the program, with a bar on w: the first time
// takes seconds. On other devices it does nothing.
func Compile(ctx context.Context, w io.Writer, d hip.Device) error {
	if !d.Info().IsGPU() {
		return nil
	}
	kernels := hip.Kernels()
	progress, done := cli.Progress(w, "compile", "kernels")
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
				err := hip.Compile(ctx, d, k)
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
