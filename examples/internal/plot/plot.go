// Package plot draws curves as SVG. A picture brings its own ground, light or dark as the
// reader's page is, so that it can be read on either.
package plot

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"html"
	"io"
	"math"
	"os"
	"slices"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Chart is a picture of curves over one pair of axes.
type Chart struct {
	Title  string
	X      Axis // its ticks are where the curves have points
	Y      Axis
	Curves []Curve
}

// Axis is linear from 0 on, or logarithmic.
type Axis struct {
	Log   bool
	Label func(float64) string // of a tick; nil: the number
}

// Curve is a line through points. Its name and its last value stand at its end.
type Curve struct {
	Name   string
	Dashed bool // a bound or a model, not a measurement
	Points []Point
}

// Point is a value Y at X, both finite and positive.
type Point struct{ X, Y float64 }

// Digits shows a number with about three digits that count.
func Digits(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// Save writes the picture to a file.
func (c *Chart) Save(name string) error {
	var svg bytes.Buffer
	if err := c.Write(&svg); err != nil {
		return err
	}
	return os.WriteFile(name, svg.Bytes(), 0o644)
}

// The picture, the frame within it, and the least distance between the names of curves.
const (
	width, height            = 720, 400
	left, right, top, bottom = 60.0, 460.0, 48.0, 356.0
	nameGap                  = 16.0
)

// head opens the picture, with the colors of both grounds.
const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
<style>
.ground{fill:#ffffff}.ink{fill:#1f2328}.grid{stroke:#d1d9e0}
.c0{--c:#0072b2}.c1{--c:#b84d00}.c2{--c:#007a5a}.c3{--c:#a3407a}.c4{--c:#6a51a3}.c5{--c:#7a5c00}
@media (prefers-color-scheme:dark){
.ground{fill:#0d1117}.ink{fill:#f0f6fc}.grid{stroke:#3d444d}
.c0{--c:#56b4e9}.c1{--c:#ff9e5e}.c2{--c:#3fcf9f}.c3{--c:#e79ac8}.c4{--c:#b8a3f0}.c5{--c:#e6c04a}
}
path{fill:none;stroke:var(--c);stroke-width:2}circle,.name{fill:var(--c)}
</style>
<rect class="ground" width="%[1]d" height="%[2]d" rx="6"/>
`

const colors = 6 // c0 to c5

// Write writes the picture.
func (c *Chart) Write(w io.Writer) error {
	xs, highest, lowest := c.extent()
	if len(xs) == 0 {
		return errors.New("plot: no curve has a point")
	}
	ticks := c.Y.ticks(lowest, highest)
	x := c.X.scale(xs[0], xs[len(xs)-1], left, right)
	y := c.Y.scale(ticks[0], ticks[len(ticks)-1], bottom, top)

	p := printer{w: w}
	p.put(head, width, height)
	p.text(left, 26, "start", "ink", c.Title)
	for _, tick := range ticks {
		p.put(`<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", left, y(tick), right, y(tick))
		p.text(left-8, y(tick)+4, "end", "ink", c.Y.label(tick))
	}
	for _, at := range xs {
		p.text(x(at), bottom+22, "middle", "ink", c.X.label(at))
	}
	for i, curve := range c.Curves {
		p.curve(curve, i%colors, x, y)
	}
	order := make([]int, len(c.Curves))
	for i := range order {
		order[i] = i
	}
	end := func(i int) float64 { return y(c.Curves[i].Points[len(c.Curves[i].Points)-1].Y) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(end(a), end(b)) })
	at := math.Inf(-1)
	for _, i := range order {
		points := c.Curves[i].Points
		at = max(at+nameGap, end(i)+4)
		p.text(right+12, at, "start", fmt.Sprintf("name c%d", i%colors), c.Curves[i].Name+": "+Digits(points[len(points)-1].Y))
	}
	p.put("</svg>\n")
	return p.err
}

// extent returns where the curves have points, in order, and their largest and least values.
func (c *Chart) extent() (xs []float64, highest, lowest float64) {
	lowest = math.Inf(1)
	c.Curves = slices.DeleteFunc(c.Curves, func(c Curve) bool { return len(c.Points) == 0 })
	for _, curve := range c.Curves {
		for _, p := range curve.Points {
			xs = append(xs, p.X)
			highest, lowest = max(highest, p.Y), min(lowest, p.Y)
		}
	}
	slices.Sort(xs)
	return slices.Compact(xs), highest, lowest
}

func (a Axis) label(v float64) string {
	if a.Label != nil {
		return a.Label(v)
	}
	return fmt.Sprintf("%.4g", v)
}

// scale returns the place of a value between two that have the places from and to.
func (a Axis) scale(least, most, from, to float64) func(float64) float64 {
	of := func(v float64) float64 { return v }
	if a.Log {
		of = math.Log2
	}
	return func(v float64) float64 {
		if most == least {
			return from
		}
		return from + (to-from)*(of(v)-of(least))/(of(most)-of(least))
	}
}

// ticks returns round numbers from one at or below the least value, or from 0, to one at or
// above the largest.
func (a Axis) ticks(lowest, highest float64) (ticks []float64) {
	if a.Log {
		for decade := math.Pow(10, math.Floor(math.Log10(lowest))); ; decade *= 10 {
			for _, factor := range []float64{1, 2, 5} {
				tick := factor * decade
				if tick <= lowest {
					ticks = ticks[:0] // it is low enough alone
				}
				if ticks = append(ticks, tick); tick >= highest {
					return ticks
				}
			}
		}
	}
	tick := math.Pow(10, math.Floor(math.Log10(highest)))
	for highest/tick < 4 {
		tick /= 2
	}
	for i := range int(math.Ceil(highest/tick-1e-9)) + 1 {
		ticks = append(ticks, float64(i)*tick)
	}
	return ticks
}

// printer writes until something fails.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) put(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) text(x, y float64, anchor, class, words string) {
	p.put(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", class, x, y, anchor, html.EscapeString(safetensors.Printable(words)))
}

func (p *printer) curve(c Curve, color int, x, y func(float64) float64) {
	p.put(`<g class="c%d">`+"\n"+`<path d="`, color)
	for i, at := range c.Points {
		p.put("%c%.1f %.1f", "ML"[min(i, 1)], x(at.X), y(at.Y))
	}
	if p.put(`"`); c.Dashed {
		p.put(` stroke-dasharray="5 4"`)
	}
	p.put("/>\n")
	for _, at := range c.Points {
		if !c.Dashed {
			p.put(`<circle cx="%.1f" cy="%.1f" r="3.5"><title>%s, %g: %s</title></circle>`+"\n", x(at.X), y(at.Y), html.EscapeString(safetensors.Printable(c.Name)), at.X, Digits(at.Y))
		}
	}
	p.put("</g>\n")
}
