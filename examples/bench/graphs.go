package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/drafthead/drafthead/hip"
)

// graphDevice is a device that records graphs.
type graphDevice interface {
	hip.Device
	Compile(ctx context.Context, kernels ...*hip.Kernel) error
	filler
	clock
	Capture(record func(d hip.Device) error) (launch, release func() error, err error)
	sharer
}

// sharer is a device whose kernels reach memory of the host, at an address of its own.
type sharer interface {
	AllocShared(n int64) (hip.Ptr, []byte, error)
}

// graphTimer notes how long the device works on the graphs that are launched, as this
// process sees it: from where the launch of the first returns to the end of the Sync
// after them.
type graphTimer struct {
	graphDevice
	launched time.Time // zero: none since the last Sync
	waited   time.Duration
}

func (t *graphTimer) Capture(record func(d hip.Device) error) (launch, release func() error, err error) {
	own, release, err := t.graphDevice.Capture(record)
	if err != nil {
		return nil, nil, err
	}
	launch = func() error {
		err := own()
		if t.launched.IsZero() {
			t.launched = time.Now()
		}
		return err
	}
	return launch, release, nil
}

func (t *graphTimer) Sync() error {
	err := t.graphDevice.Sync()
	if !t.launched.IsZero() {
		t.waited += time.Since(t.launched)
		t.launched = time.Time{}
	}
	return err
}

// take returns the sum since the last take.
func (t *graphTimer) take() (waited time.Duration) {
	waited, t.waited = t.waited, 0
	return waited
}

// timeGraphs makes the device time its graphs, if it records any.
func (b *session) timeGraphs() {
	if d, ok := b.device.(graphDevice); ok {
		b.graphs = &graphTimer{graphDevice: d}
		b.device = b.graphs
	}
}

// measureGraph adds to a row how long the device works on the graphs of a call, and how
// much longer the same call takes: the inputs and the plan before them, their launch, and
// what is made of the results. The few microseconds from the launch to the device's start,
// and from its end to this process's, count as the device's.
func (b *session) measureGraph(ctx context.Context, w *work, r *row) error {
	if b.graphs == nil {
		return nil
	}
	var graph, host []float64
	start := time.Now()
	for i := 0; ; i++ {
		more, err := b.rank.Agree(ctx, func() bool {
			return len(graph) < minRuns || time.Since(start) < b.settings.time/2 && len(graph) < maxRuns
		})
		if err != nil {
			return err
		}
		if !more {
			break
		}
		b.graphs.take()
		began := time.Now()
		if err := w.run(ctx, b.head, i%w.variants()); err != nil {
			return err
		}
		whole, waited := time.Since(began), b.graphs.take()
		if waited > 0 {
			graph = append(graph, waited.Seconds())
			host = append(host, (whole - waited).Seconds())
		} else if i > 2*minRuns {
			return nil // its launches do not become a graph
		}
	}
	r.GraphSeconds, r.HostSeconds = median(graph), median(host)
	return nil
}

// printGraphs writes what the host adds to the rows that are graphs.
func (s *summary) printGraphs(w io.Writer) error {
	return s.printTimes(w, "host           before and after the graphs of a call:", func(r *row) float64 {
		if r.GraphSeconds == 0 {
			return 0
		}
		return r.HostSeconds
	})
}

// printTimes writes a time of each row that has one, in lines that fit a terminal.
func (s *summary) printTimes(w io.Writer, line string, of func(r *row) float64) error {
	var parts []string
	for i := range s.Rows {
		if seconds := of(&s.Rows[i]); seconds > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f µs", s.Rows[i].title(), 1e6*seconds))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	const indent = "               "
	for i, part := range parts {
		if i < len(parts)-1 {
			part += ","
		}
		if len([]rune(line))+1+len([]rune(part)) > columns {
			fmt.Fprintln(w, line)
			line = indent + part
			continue
		}
		line += " " + part
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
