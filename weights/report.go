package weights

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Report says what a load takes from a checkpoint. It prints as a table.
type Report struct {
	Params     []ParamReport
	Tensors    int              // of which this rank holds a share, scales among them
	Parameters int64            // weights of this rank, without scales
	Bytes      int64            // weights and scales of this rank, as stored
	Formats    map[string]int64 // these bytes by format
	Ignored    []Ignored
	Notes      []string // what a user should know and need not act on
}

// ParamReport is one parameter.
type ParamReport struct {
	Name    string
	Tensors int // of which this rank holds a share, scales among them
	Rows    int // of this rank
	Cols    int // 1: a vector
	Bytes   int64
	Formats []string // of its parts, each once
}

// Ignored counts tensors of other modules by the first parts of their names.
type Ignored struct {
	Prefix  string
	Tensors int
}

func newReport(p *Plan, ignored []string, unopened []UnopenedShard) Report {
	r := Report{Formats: make(map[string]int64)}
	for i := range p.params {
		r.add(&p.params[i], p.sources[i])
	}
	for _, shard := range unopened {
		ignored = append(ignored, shard.Tensors...)
	}
	r.Ignored = countByPrefix(ignored)
	return r
}

func (r *Report) add(p *Param, sources []origin) {
	row := ParamReport{Name: p.Name, Cols: p.Cols}
	for j, s := range sources {
		part := &p.Parts[j]
		rows, cols := part.KeepRows.Len(), part.KeepCols.Len()
		if s.weight == nil || rows == 0 {
			continue
		}
		data, scale := s.share(part)
		bytes := data.bytes() + scale.bytes()
		row.Tensors++
		if s.scale != nil {
			row.Tensors++
		}
		row.Rows += rows
		row.Bytes += bytes
		r.Formats[s.format.String()] += bytes
		r.Parameters += int64(rows) * int64(cols)
		if name := s.format.String(); !slices.Contains(row.Formats, name) {
			row.Formats = append(row.Formats, name)
		}
	}
	if row.Tensors == 0 {
		return
	}
	r.Tensors += row.Tensors
	r.Bytes += row.Bytes
	r.Params = append(r.Params, row)
}

// countByPrefix groups names by their first two parts, most tensors first.
func countByPrefix(names []string) []Ignored {
	counts := make(map[string]int)
	for _, name := range names {
		parts := strings.SplitN(strings.TrimPrefix(name, bundledPrefix), ".", 3)
		prefix := strings.Join(parts[:min(2, len(parts))], ".")
		if strings.HasPrefix(name, bundledPrefix) {
			prefix = bundledPrefix + prefix
		}
		counts[prefix]++
	}
	out := make([]Ignored, 0, len(counts))
	for prefix, n := range counts {
		out = append(out, Ignored{prefix, n})
	}
	slices.SortFunc(out, func(a, b Ignored) int {
		return cmp.Or(cmp.Compare(b.Tensors, a.Tensors), cmp.Compare(a.Prefix, b.Prefix))
	})
	return out
}

// WriteTo prints the report: a table of the parameters, totals, and what was
// left to others.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var s strings.Builder
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "parameter\tshape\ttensors\tbytes\tformat")
	for _, p := range r.Params {
		shape := fmt.Sprintf("[%d, %d]", p.Rows, p.Cols)
		if p.Cols == 1 {
			shape = fmt.Sprintf("[%d]", p.Rows)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", p.Name, shape, p.Tensors, FormatBytes(p.Bytes), strings.Join(p.Formats, ", "))
	}
	t.Flush()
	fmt.Fprintf(&s, "\n%d parameters in %d tensors, %s:", r.Parameters, r.Tensors, FormatBytes(r.Bytes))
	for _, name := range slices.Sorted(maps.Keys(r.Formats)) {
		fmt.Fprintf(&s, "  %s %s", name, FormatBytes(r.Formats[name]))
	}
	s.WriteString("\n")
	for _, ig := range r.Ignored {
		fmt.Fprintf(&s, "not the head's: %s under %s\n", count(ig.Tensors, "tensor"), printable(ig.Prefix))
	}
	for _, note := range r.Notes {
		s.WriteString("note: " + note + "\n")
	}
	n, err := io.WriteString(w, s.String())
	return int64(n), err
}

// String returns what WriteTo prints.
func (r *Report) String() string {
	var s strings.Builder
	r.WriteTo(&s)
	return s.String()
}

// FormatBytes writes a size with the decimal unit that fits it: "7.73 GB".
func FormatBytes(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if float64(n) >= 0.999995*u.size { // what would round up to "1000.00" of the unit below
			return fmt.Sprintf("%.2f %s", float64(n)/u.size, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
