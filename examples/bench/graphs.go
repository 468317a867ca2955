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

// measureGraph adds to a row how long the device works on the graph of a call, and how
// much longer the same call takes: what a call takes changes from one to the next by
// more than the host's part of it. To look at the device's clock costs the host some
// calls of the driver, which count as its part.
func (b *session) measureGraph(ctx context.Context, w *work, r *row) error {
	if b.graphs == nil {
		return nil
	}
	var seconds, host []float64
	start := time.Now()
	for i := 0; len(seconds) < minRuns || time.Since(start) < b.settings.time && len(seconds) < maxRuns; i++ {
		began := time.Now()
		graph, err := b.graphs.time(func() error { return w.run(ctx, b.head, i%w.variants()) })
		whole := time.Since(began)
		if err != nil {
			return err
		}
		if graph > 0 {
			seconds = append(seconds, graph.Seconds())
			host = append(host, (whole - graph).Seconds())
		} else if i > 2*minRuns {
			return nil // its launches are no graph
		}
	}
	r.GraphSeconds, r.HostSeconds = median(seconds), median(host)
	return nil
}

// time returns the device's time for the graphs that a call launches.
func (t *graphTimer) time(call func() error) (time.Duration, error) {
	t.on, t.total = true, 0
	err := call()
	t.on = false
	return t.total, err
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
