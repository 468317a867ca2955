package weights

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// Report says what a load takes from a checkpoint. It prints as a table of the
// parameters, totals, and what is left to others.
type Report struct {
	Tensors    int              // of which this rank holds a share, scales among them
	Parameters int64            // weights of this rank, without scales
	Bytes      int64            // weights and scales of this rank, as stored
	Formats    map[string]int64 // these bytes by format
	Ignored    map[string]int   // tensors of other modules, by the first two parts of their names, up to 1000 of these; "" has the rest
	Notes      []string         // what a user should know and need not act on

	params []paramReport
}

// paramReport is one parameter.
type paramReport struct {
	name    string
	tensors int // of which this rank holds a share, scales among them
	rows    int // of this rank
	cols    int // 1: a vector
	bytes   int64
	formats []string // of its parts, each once
}

func newReport(p *Plan, ignored prefixes) Report {
	r := Report{Formats: make(map[string]int64), Ignored: make(map[string]int)}
	for prefix, n := range ignored {
		r.Ignored[strings.Clone(prefix)] = n // it is a part of a large text
	}
	for i := range p.params {
		r.add(&p.params[i], p.sources[i])
	}
	return r
}

func (r *Report) add(p *Param, sources []origin) {
	row := paramReport{name: p.Name, cols: p.cols()}
	for j, s := range sources {
		part := &p.Parts[j]
		rows, cols := part.keepRows().Len(), part.keepCols().Len()
		if s.weight == nil || rows == 0 {
			continue
		}
		data, scale := s.share(part)
		bytes := data.bytes() + scale.bytes()
		row.tensors++
		for _, t := range []*safetensors.Tensor{s.scale, s.global} {
			if t != nil {
				row.tensors++
			}
		}
		row.rows += rows
		row.bytes += bytes
		r.Formats[s.format.String()] += bytes
		r.Parameters += int64(rows) * int64(cols)
		if name := s.format.String(); !slices.Contains(row.formats, name) {
			row.formats = append(row.formats, name)
		}
	}
	if row.tensors == 0 {
		return
	}
	r.Tensors += row.tensors
	r.Bytes += row.bytes
	r.params = append(r.params, row)
}

// prefixes counts tensors by the first two parts of their names.
type prefixes map[string]int

func (p prefixes) add(name string) {
	const most = 1000
	prefix := firstParts(name)
	if _, known := p[prefix]; !known && len(p) >= most {
		prefix = ""
	}
	p[prefix]++
}

// addUnopened counts the tensors that the index names in files that were left closed.
func (p prefixes) addUnopened(c *safetensors.Folder) {
	for tensor := range c.Index() {
		if _, opened := c.Tensor(tensor); !opened {
			p.add(tensor)
		}
	}
}

// firstParts returns the first two parts of a name, and the bundled prefix before them.
func firstParts(name string) string {
	rest := strings.TrimPrefix(name, bundledPrefix)
	first := strings.IndexByte(rest, '.')
	if first < 0 {
		return name
	}
	second := strings.IndexByte(rest[first+1:], '.')
	if second < 0 {
		return name
	}
	return name[:len(name)-len(rest)+first+1+second]
}

// String returns the table, the totals, and what is left to others, most tensors first.
func (r *Report) String() string {
	var s strings.Builder
	t := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "parameter\tshape\ttensors\tbytes\tformat")
	for _, p := range r.params {
		shape := fmt.Sprintf("[%d, %d]", p.rows, p.cols)
		if p.cols == 1 {
			shape = fmt.Sprintf("[%d]", p.rows)
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\n", p.name, shape, p.tensors, formatBytes(p.bytes), strings.Join(p.formats, ", "))
	}
	t.Flush()
	fmt.Fprintf(&s, "\n%d parameters in %d tensors, %s:", r.Parameters, r.Tensors, formatBytes(r.Bytes))
	for _, name := range slices.Sorted(maps.Keys(r.Formats)) {
		fmt.Fprintf(&s, "  %s %s", name, formatBytes(r.Formats[name]))
	}
	s.WriteString("\n")
	prefixes := slices.SortedFunc(maps.Keys(r.Ignored), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Ignored[b], r.Ignored[a]), cmp.Compare(a, b))
	})
	const mostPrefixes = 100
	for i, prefix := range prefixes {
		if i == mostPrefixes {
			fmt.Fprintf(&s, "not the head's: tensors under %d more prefixes\n", len(prefixes)-i)
			break
		}
		fmt.Fprintf(&s, "not the head's: %s under %s\n", count(r.Ignored[prefix], "tensor"), cmp.Or(safetensors.Printable(prefix), "other prefixes"))
	}
	for _, note := range r.Notes {
		s.WriteString("note: " + note + "\n")
	}
	return s.String()
}

// formatBytes writes a size with the decimal unit that fits it: "7.73 GB".
func formatBytes(n int64) string {
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
