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
var ErrName = errors.New("want cpu[:bf16x2|bf16], reference or hip[:n]")

// Var defines the -device flag, whose value goes to name. A value that does not name a
// device is wrong usage; [Open] finds out whether a GPU is there.
func Var(flags *flag.FlagSet, name *string) {
	*name = "cpu"
	flags.Var((*flagValue)(name), "device", "`device` that runs the head: cpu, or cpu:bf16x2 or cpu:bf16, whose products round activations to two or one bfloat16 where the processor multiplies those; reference (plain float64 twins, slow); or hip[:n], GPU n through HIP or CUDA")
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
	_, err := parse(name)
	*d = flagValue(name)
	return err
}

// named is what a -device flag says.
type named struct {
	kind        string
	number      int             // of a GPU
	activations hip.Activations // of a CPU
}

func parse(name string) (d named, err error) {
	kind, text, more := strings.Cut(name, ":")
	switch {
	case !more && (kind == "cpu" || kind == "reference" || kind == "hip"):
		return named{kind: kind}, nil
	case kind == "cpu":
		for _, a := range []hip.Activations{hip.ActivationsBF16x2, hip.ActivationsBF16} {
			if text == a.String() {
				return named{kind: kind, activations: a}, nil
			}
		}
	case kind == "hip":
		if n, err := strconv.Atoi(text); err == nil && n >= 0 {
			return named{kind: kind, number: n}, nil
		}
	}
	return d, ErrName
}

// Open opens the device that a -device flag names. The caller closes it. A GPU that
// is not there is a [hip.ErrNoDevice].
func Open(name string) (hip.Device, error) {
	of, err := parse(name)
	var d hip.Device
	switch of.kind {
	case "cpu":
		d, err = hip.OpenHost(hip.HostOptions{Activations: of.activations})
	case "reference":
		d = hip.NewReference()
	case "hip":
		d, err = hip.Open(of.number, hip.OpenOptions{Logger: slog.Default()})
	}
	if errors.Is(err, hip.ErrNoDevice) {
		return nil, fmt.Errorf("device %q: %w; -device cpu needs none", name, err)
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
	of, err := parse(name)
	if err != nil {
		return nil, fmt.Errorf("device %q: %w", name, err)
	}
	switch of.kind {
	case "cpu":
		return hip.OpenHost(hip.HostOptions{Threads: max(1, runtime.GOMAXPROCS(0)/n), Activations: of.activations})
	case "reference":
		return hip.NewReference(), nil
	}
	if d, err = Open(fmt.Sprintf("hip:%d", of.number+i)); err != nil {
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
