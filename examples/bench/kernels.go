package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
	"unsafe"

	"github.com/drafthead/drafthead/examples/internal/plot"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// kernelTime is what one kernel takes of a step, all its launches together, as the median
// over the runs. Calls of the device other than kernels have their names in parentheses.
type kernelTime struct {
	Kernel   string  `json:"kernel"`
	Launches int     `json:"launches"`
	Seconds  float64 `json:"seconds"`
}

// clock is a device that takes times itself.
type clock interface {
	Time(work func() error) (time.Duration, error)
}

// kernelTimer adds up, by name, how long the calls of a device take when each waits
// for those before it and for its own end. A GPU's own clock measures, so that neither the
// launch nor the waiting counts.
type kernelTimer struct {
	hip.Device
	clock clock // nil: this process's

	mu    sync.Mutex
	total map[string]kernelTime
}

// adopter is a device that uses memory of the caller in place.
type adopter interface {
	Adopt(mem []byte, writable bool) (hip.Ptr, error)
}

// newKernelTimer returns a timer around d, and the device to run on. That passes on
// what loading and drafting ask a device for beyond [hip.Device]. It records no
// graphs: in a graph the kernels would not be seen. Closing it closes d.
func newKernelTimer(d hip.Device) (*kernelTimer, hip.Device) {
	t := &kernelTimer{Device: d, total: make(map[string]kernelTime)}
	t.clock, _ = hip.As[clock](d)
	own, adopts := hip.As[adopter](d)
	parts, fills := hip.As[filler](d)
	switch {
	case adopts && fills:
		return t, struct {
			*kernelTimer
			adopter
			filler
		}{t, own, parts}
	case adopts:
		return t, struct {
			*kernelTimer
			adopter
		}{t, own}
	case fills:
		return t, struct {
			*kernelTimer
			filler
		}{t, parts}
	}
	return t, t
}

// Compile passes kernels on to a device that compiles them; others are ready.
func (t *kernelTimer) Compile(ctx context.Context, kernels ...*hip.Kernel) error {
	return hip.Compile(ctx, t.Device, kernels...)
}

func (t *kernelTimer) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	return t.time(k.Name, func() error { return t.Device.Launch(k, grid, args) })
}

func (t *kernelTimer) Copy(dst, src hip.Ptr, n int64) error {
	return t.time("(copy)", func() error { return t.Device.Copy(dst, src, n) })
}

func (t *kernelTimer) Write(dst hip.Ptr, src []byte) error {
	return t.time("(write)", func() error { return t.Device.Write(dst, src) })
}

func (t *kernelTimer) Read(dst []byte, src hip.Ptr) error {
	return t.time("(read)", func() error { return t.Device.Read(dst, src) })
}

// time does one call alone.
func (t *kernelTimer) time(name string, call func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.Device.Sync(); err != nil {
		return err
	}
	elapsed, err := t.elapsed(call)
	if err != nil {
		return err
	}
	sum := t.total[name]
	t.total[name] = kernelTime{name, sum.Launches + 1, sum.Seconds + elapsed.Seconds()}
	return nil
}

func (t *kernelTimer) elapsed(call func() error) (time.Duration, error) {
	if t.clock != nil {
		return t.clock.Time(call)
	}
	start := time.Now()
	if err := call(); err != nil {
		return 0, err
	}
	err := t.Device.Sync()
	return time.Since(start), err
}

// take returns the sums since the last take.
func (t *kernelTimer) take() map[string]kernelTime {
	t.mu.Lock()
	defer t.mu.Unlock()
	taken := t.total
	t.total = make(map[string]kernelTime)
	return taken
}

// measureKernels times the kernels of the first work, a step, on a head of its own.
func (b *session) measureKernels(ctx context.Context) (err error) {
	timer, device := newKernelTimer(b.device)
	head, err := b.loadAnew(ctx, mtp.Options{Device: device})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	step := *b.works[0]
	step.inputs = nil
	cache, err := head.NewCache(step.pages())
	if err != nil {
		return err
	}
	if err := fillCache(b.device, cache, b.settings.cache, func(_, _ int64) {}); err != nil {
		return err
	}
	step.prepare(head.Config(), cache, rand.New(rand.NewPCG(1, 2)))

	var runs []map[string]kernelTime
	var seconds []float64
	start := time.Now()
	for i := 0; len(runs) < minRuns || time.Since(start) < b.settings.time && len(runs) < maxRuns; i++ {
		timer.take() // of what came before
		begin := time.Now()
		if err := step.run(ctx, head, i%step.variants()); err != nil {
			return err
		}
		if i == 0 { // makes room for the others
			continue
		}
		seconds = append(seconds, time.Since(begin).Seconds())
		runs = append(runs, timer.take())
	}
	b.out.Kernels, b.out.KernelsStepSeconds = medianTimes(runs), median(seconds)
	return nil
}

// medianTimes returns the median of every kernel over the runs, the longest first.
// A run without the kernel counts as 0.
func medianTimes(runs []map[string]kernelTime) []kernelTime {
	names := make(map[string]bool)
	for _, r := range runs {
		for name := range r {
			names[name] = true
		}
	}
	times := make([]kernelTime, 0, len(names))
	for name := range names {
		var launches, seconds []float64
		for _, r := range runs {
			launches = append(launches, float64(r[name].Launches))
			seconds = append(seconds, r[name].Seconds)
		}
		times = append(times, kernelTime{name, int(median(launches)), median(seconds)})
	}
	slices.SortFunc(times, func(a, b kernelTime) int {
		return cmp.Or(cmp.Compare(b.Seconds, a.Seconds), cmp.Compare(a.Kernel, b.Kernel))
	})
	return times
}

// printKernels writes the table of the kernels.
func (s *summary) printKernels(w io.Writer) error {
	sum := kernelTime{Kernel: "sum"}
	for _, k := range s.Kernels {
		sum.Launches += k.Launches
		sum.Seconds += k.Seconds
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "kernel of a step\tlaunches\tms\tof sum\t")
	for _, k := range append(slices.Clone(s.Kernels), sum) {
		fmt.Fprintf(table, "%s\t%d\t%s\t%.1f %%\t\n", k.Kernel, k.Launches, plot.Digits(k.Seconds*1e3), 100*k.Seconds/sum.Seconds)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\none launch at a time, with which a step takes %s ms\n", plot.Digits(s.KernelsStepSeconds*1e3))
	return err
}
