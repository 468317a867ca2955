package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/drafthead/drafthead/hip"
)

// graphDevice is a device whose graphs can be timed.
type graphDevice interface {
	hip.Device
	hip.Compiler
	hip.Filler
	hip.Timer
	hip.Capturer
	hip.Sharer
}

// graphTimer tells how long a device takes for the graphs that are launched while it
// is on, by the device's own clock.
type graphTimer struct {
	graphDevice
	on    bool
	total time.Duration
}

func (t *graphTimer) Capture(record func(d hip.Device) error) (hip.Graph, error) {
	g, err := t.graphDevice.Capture(record)
	if err != nil {
		return nil, err
	}
	return &timedGraph{g, t}, nil
}

type timedGraph struct {
	hip.Graph
	timer *graphTimer
}

func (g *timedGraph) Launch() error {
	if !g.timer.on {
		return g.Graph.Launch()
	}
	took, err := g.timer.Time(g.Graph.Launch)
	g.timer.total += took
	return err
}

// timeGraphs has the graphs of the device timed, if it records any.
func (b *session) timeGraphs() {
	if d, ok := b.device.(graphDevice); ok {
		b.graphs = &graphTimer{graphDevice: d}
		b.device = b.graphs
	}
}

// measureGraph adds to a row how long the device works on the graph of a call; what
// is left of the row's time is the host's.
func (b *session) measureGraph(ctx context.Context, w *work, r *row) error {
	if b.graphs == nil {
		return nil
	}
	b.graphs.on = true
	defer func() { b.graphs.on = false }()
	var seconds []float64
	start := time.Now()
	for i := 0; len(seconds) < minRuns || time.Since(start) < b.settings.time/4 && len(seconds) < maxRuns; i++ {
		b.graphs.total = 0
		if err := w.run(ctx, b.head, i%w.variants()); err != nil {
			return err
		}
		if b.graphs.total > 0 {
			seconds = append(seconds, b.graphs.total.Seconds())
		} else if i > 2*minRuns {
			return nil // its launches are no graph
		}
	}
	r.GraphSeconds = median(seconds)
	r.HostSeconds = r.Seconds - r.GraphSeconds
	return nil
}

// printGraphs writes what the host adds to the rows that are graphs.
func (s *summary) printGraphs(w io.Writer) error {
	var parts []string
	for _, r := range s.Rows {
		if r.GraphSeconds > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f µs", r.title(), 1e6*r.HostSeconds))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "host           beyond the graph of a call: %s\n", strings.Join(parts, ", "))
	return err
}
