package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// curve is how long a work takes by the number of devices.
type curve struct {
	name   string
	dashed bool // a floor, not a measurement
	points []point
}

type point struct {
	devices int
	ms      float64
}

// plot draws the runs whose -json output is in the files, as SVG.
func plot(w io.Writer, files []string) error {
	var runs []*summary
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		s := &summary{}
		if err := json.Unmarshal(text, s); err != nil {
			return fmt.Errorf("%s: %w, want what bench -json prints", safetensors.Printable(name), err)
		}
		if s.TensorParallel < 1 || s.TensorParallel > maxCount || s.ExpertParallel < 1 || s.ExpertParallel > maxCount {
			return fmt.Errorf("%s: tp is %d and ep is %d, want at least 1", safetensors.Printable(name), s.TensorParallel, s.ExpertParallel)
		}
		runs = append(runs, s)
	}
	curves := curvesOf(runs)
	if len(curves) == 0 {
		return errors.New("no run has a step or a batch, of which -plot draws the time by the number of devices")
	}
	return draw(w, runs[0].DeviceName, curves)
}

// curvesOf returns the steps and the largest batches of the runs, by what their ranks share,
// and below them the floor of a step: its bytes on each device by the rate of plain reading.
func curvesOf(runs []*summary) (curves []curve) {
	add := func(name string, dashed bool, p point) {
		i := slices.IndexFunc(curves, func(c curve) bool { return c.name == name })
		if i < 0 {
			i = len(curves)
			curves = append(curves, curve{name: name, dashed: dashed})
		}
		curves[i].points = append(curves[i].points, p)
	}
	largest := 0
	for _, s := range runs {
		for i := range s.Rows {
			if r := &s.Rows[i]; r.Work == "batch" && r.Error == "" {
				largest = max(largest, r.Rows)
			}
		}
	}
	for _, s := range runs {
		layouts := []string{""}
		switch {
		case s.TensorParallel == 1 && s.ExpertParallel == 1:
			layouts = []string{"", ", -ep", ", -tp × -ep"} // where each begins
		case s.ExpertParallel > 1 && s.TensorParallel > 1:
			layouts = []string{", -tp × -ep"}
		case s.ExpertParallel > 1:
			layouts = []string{", -ep"}
		}
		n := s.TensorParallel * s.ExpertParallel
		for i := range s.Rows {
			r := &s.Rows[i]
			if r.Error != "" || !(r.Seconds > 0) {
				continue
			}
			for _, layout := range layouts {
				switch {
				case r.Work == "step":
					add("step"+layout, false, point{n, 1e3 * r.Seconds})
					if layout == "" && r.Ceiling > 0 {
						add("floor of a step", true, point{n, float64(r.Bytes) / r.Ceiling / 1e6})
					}
				case r.Work == "batch" && r.Rows == largest && largest > 1:
					add(fmt.Sprintf("batch of %d%s", largest, layout), false, point{n, 1e3 * r.Seconds})
				}
			}
		}
	}
	for i := range curves {
		slices.SortStableFunc(curves[i].points, func(a, b point) int { return cmp.Compare(a.devices, b.devices) })
	}
	// A layout without a run of its own has one device alone.
	return slices.DeleteFunc(curves, func(c curve) bool {
		return c.points[len(c.points)-1].devices == 1 && strings.HasSuffix(c.name, "-ep")
	})
}

// The picture, the frame within it, and the distance of labels.
const (
	plotWidth, plotHeight                    = 640, 400
	plotLeft, plotRight, plotTop, plotBottom = 60.0, 440.0, 40.0, 350.0
	labelGap                                 = 16.0
	ink, faint                               = "#222222", "#dddddd"
	font                                     = "font-family=\"sans-serif\" font-size=\"12\""
)

var curveColors = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"}

// draw writes the curves: devices to the right, each tick twice the one before, and
// milliseconds from 0 up.
func draw(w io.Writer, title string, curves []curve) error {
	most, highest := 1, 0.0
	for _, c := range curves {
		for _, p := range c.points {
			most, highest = max(most, p.devices), max(highest, p.ms)
		}
	}
	tick := math.Pow(10, math.Floor(math.Log10(highest)))
	for highest/tick < 4 {
		tick /= 2
	}
	top := tick * math.Ceil(highest/tick)
	x := func(devices int) float64 {
		if most == 1 {
			return plotLeft
		}
		return plotLeft + (plotRight-plotLeft)*math.Log2(float64(devices))/math.Log2(float64(most))
	}
	y := func(ms float64) float64 { return plotBottom - (plotBottom-plotTop)*ms/top }

	var failed error
	put := func(format string, args ...any) {
		if failed == nil {
			_, failed = fmt.Fprintf(w, format+"\n", args...)
		}
	}
	text := func(x, y float64, anchor, color, words string) {
		put(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`, x, y, anchor, color, html.EscapeString(safetensors.Printable(words)))
	}
	put(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" %s>`, plotWidth, plotHeight, font)
	put(`<rect width="100%%" height="100%%" fill="white"/>`)
	text(plotLeft, 22, "start", ink, "ms by the number of devices, "+title)
	for i := 0; float64(i)*tick <= top*1.001; i++ {
		at := y(float64(i) * tick)
		put(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, plotLeft, at, plotRight, at, faint)
		text(plotLeft-8, at+4, "end", ink, fmt.Sprintf("%.4g", float64(i)*tick))
	}
	for n := 1; n <= most; n *= 2 {
		text(x(n), plotBottom+20, "middle", ink, fmt.Sprint(n))
	}
	labels := slices.Clone(curves)
	end := func(c curve) float64 { return y(c.points[len(c.points)-1].ms) }
	slices.SortStableFunc(labels, func(a, b curve) int { return cmp.Compare(end(a), end(b)) })
	color := make(map[string]string)
	for i, c := range curves {
		color[c.name] = curveColors[i%len(curveColors)]
		dashes := ""
		if c.dashed {
			color[c.name], dashes = "#777777", ` stroke-dasharray="5 4"`
		}
		path := ""
		for j, p := range c.points {
			path += fmt.Sprintf("%c%.1f %.1f", "ML"[min(j, 1)], x(p.devices), y(p.ms))
		}
		put(`<path d="%s" fill="none" stroke="%s" stroke-width="2"%s/>`, path, color[c.name], dashes)
		for _, p := range c.points {
			if !c.dashed {
				put(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s on %d: %s ms</title></circle>`, x(p.devices), y(p.ms), color[c.name], html.EscapeString(c.name), p.devices, digits(p.ms))
			}
		}
	}
	at := math.Inf(-1)
	for _, c := range labels {
		at = max(at+labelGap, end(c)+4)
		text(plotRight+10, at, "start", color[c.name], fmt.Sprintf("%s: %s", c.name, digits(c.points[len(c.points)-1].ms)))
	}
	put(`</svg>`)
	return failed
}
