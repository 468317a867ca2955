package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/examples/internal/plot"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// plotted is what -plot takes of a file: of a run of bench, or of draft.
type plotted struct {
	summary
	K                 int     `json:"k"`
	MeanTokensPerStep float64 `json:"mean_tokens_per_step"`
}

// plotFiles draws runs whose -json output is in the files: of bench the time of a step by
// the number of devices, if that differs, and by the context if not; of draft the tokens a
// step by the number of drafts.
func plotFiles(svg string, files []string) error {
	var runs []*summary
	var drafts []*plotted
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("-plot: %w; want what bench -json or draft -json prints", err)
		}
		p := &plotted{}
		if err := json.Unmarshal(text, p); err != nil {
			return fmt.Errorf("%s: %w, want what bench -json or draft -json prints", safetensors.Printable(name), err)
		}
		if p.TensorParallel < 1 || p.TensorParallel > maxCount || p.ExpertParallel < 1 || p.ExpertParallel > maxCount {
			return fmt.Errorf("%s: tp is %d and ep is %d, want at least 1: what bench -json or draft -json prints", safetensors.Printable(name), p.TensorParallel, p.ExpertParallel)
		}
		if p.MeanTokensPerStep > 0 {
			drafts = append(drafts, p)
		} else {
			runs = append(runs, &p.summary)
		}
	}
	switch {
	case len(drafts) == 0:
		return plotRuns(svg, runs)
	case len(runs) == 0:
		return draftChart(drafts).Save(svg)
	}
	return errors.New("-plot got runs of bench and of draft, want runs of one of them")
}

// plotRuns draws runs of bench.
func plotRuns(svg string, runs []*summary) error {
	chart := contextChart(runs)
	for _, s := range runs {
		if s.TensorParallel*s.ExpertParallel > 1 {
			chart = deviceChart(runs)
		}
	}
	if len(chart.Curves) == 0 {
		return errors.New("no run has a step or a batch, whose times -plot draws")
	}
	return chart.Save(svg)
}

// add adds a point to the curve of that name.
func add(curves []plot.Curve, name string, dashed bool, p plot.Point) []plot.Curve {
	i := slices.IndexFunc(curves, func(c plot.Curve) bool { return c.Name == name })
	if i < 0 {
		i = len(curves)
		curves = append(curves, plot.Curve{Name: name, Dashed: dashed})
	}
	curves[i].Points = append(curves[i].Points, p)
	slices.SortStableFunc(curves[i].Points, func(a, b plot.Point) int { return cmp.Compare(a.X, b.X) })
	return curves
}

// contextChart has the steps of each device by the positions before them.
func contextChart(runs []*summary) *plot.Chart {
	c := &plot.Chart{
		Title: "A draft step, in ms, after so many positions",
		X:     plot.Axis{Log: true, Label: positions},
		Y:     plot.Axis{Log: true},
	}
	for _, s := range runs {
		for i := range s.Rows {
			if r := &s.Rows[i]; r.Error == "" && r.Seconds > 0 && r.Context > 0 && (r.Work == "step" || r.Work == "long context") {
				c.Curves = add(c.Curves, s.DeviceName, false, plot.Point{X: float64(r.Context), Y: 1e3 * r.Seconds})
			}
		}
	}
	return c
}

// positions writes 65536 as 64k.
func positions(v float64) string {
	if k := v / 1024; k >= 1 && k == math.Floor(k) {
		return fmt.Sprintf("%gk", k)
	}
	return fmt.Sprint(v)
}

// deviceChart has the steps and the largest batches of the runs, by what their ranks share,
// and below them the floor of a step: its bytes on each device by the rate of plain reading.
func deviceChart(runs []*summary) *plot.Chart {
	c := &plot.Chart{
		Title: "ms by the number of devices, " + runs[0].DeviceName,
		X:     plot.Axis{Log: true},
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
		n := float64(s.TensorParallel * s.ExpertParallel)
		for i := range s.Rows {
			r := &s.Rows[i]
			if r.Error != "" || !(r.Seconds > 0) {
				continue
			}
			for _, layout := range layouts {
				switch {
				case r.Work == "step":
					c.Curves = add(c.Curves, "step"+layout, false, plot.Point{X: n, Y: 1e3 * r.Seconds})
					if layout == "" && r.Ceiling > 0 {
						c.Curves = add(c.Curves, "floor of a step", true, plot.Point{X: n, Y: float64(r.Bytes) / r.Ceiling / 1e6})
					}
				case r.Work == "batch" && r.Rows == largest && largest > 1:
					c.Curves = add(c.Curves, fmt.Sprintf("batch of %d%s", largest, layout), false, plot.Point{X: n, Y: 1e3 * r.Seconds})
				}
			}
		}
	}
	// A layout without a run of its own has one device alone.
	c.Curves = slices.DeleteFunc(c.Curves, func(c plot.Curve) bool {
		return c.Points[len(c.Points)-1].X == 1 && strings.HasSuffix(c.Name, "-ep")
	})
	return c
}

// draftShares are what a draft costs of a step of the target, in the plot of speedups.
var draftShares = []float64{0.02, 0.05, 0.1}

// draftChart has the tokens a step by the number of drafts, and what comes of them: tokens
// a step ÷ (1 + k · draft ÷ target), for a target whose step takes as long with k more rows.
func draftChart(runs []*plotted) *plot.Chart {
	c := &plot.Chart{Title: "Tokens a step, and the speedup expected, by drafts a step"}
	for _, p := range runs {
		k := float64(p.K)
		c.Curves = add(c.Curves, "tokens a step", false, plot.Point{X: k, Y: p.MeanTokensPerStep})
		for _, share := range draftShares {
			name := fmt.Sprintf("speedup, draft %g %% of target", 100*share)
			c.Curves = add(c.Curves, name, true, plot.Point{X: k, Y: p.MeanTokensPerStep / (1 + k*share)})
		}
	}
	return c
}
