package main

import (
	"cmp"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// inspection is what a checkpoint folder holds for the head, and the reasons
// why it would not load. Its JSON is one object; the keys are fixed.
type inspection struct {
	Path       string           `json:"path"`
	OK         bool             `json:"ok"`         // it loads
	ModelType  string           `json:"model_type"` // of config.json; empty if that is not readable
	Bundled    bool             `json:"bundled"`    // with the target, the text model under text_config
	Modules    int              `json:"modules"`    // MTP layers; 0 if config.json is not readable
	Tensors    int              `json:"tensors"`    // taken, scales among them
	Parameters int64            `json:"parameters"` // weights, without scales; 0 unless it loads
	Bytes      int64            `json:"bytes"`      // weights and scales; 0 unless it loads
	Formats    map[string]int64 `json:"formats"`    // bytes by format
	Ignored    []ignored        `json:"ignored"`    // tensors of other modules
	Notes      []string         `json:"notes"`
	Problems   []problem        `json:"problems"`
	report     *weights.Report  // nil unless it loads
}

// ignored counts the tensors under a prefix that are not the head's.
type ignored struct {
	Prefix  string `json:"prefix"`
	Tensors int    `json:"tensors"`
}

// inspect reads the config and the headers in dir, and weights if the options say so.
func inspect(dir string, opts mtp.Options) *inspection {
	in := &inspection{Path: dir, Formats: map[string]int64{}, Ignored: []ignored{}, Notes: []string{}}
	config, report, err := mtp.Inspect(dir, opts)
	if config != nil {
		in.ModelType, in.Bundled, in.Modules = config.ModelType, config.Bundled, config.NumMTPModules
	}
	in.OK, in.Problems = err == nil, problemsOf(err)
	if !in.OK {
		return in
	}
	in.report = report
	in.Tensors, in.Parameters, in.Bytes, in.Formats = report.Tensors, report.Parameters, report.Bytes, report.Formats
	in.Notes = append(in.Notes, report.Notes...)
	for prefix, n := range report.Ignored {
		in.Ignored = append(in.Ignored, ignored{prefix, n})
	}
	slices.SortFunc(in.Ignored, func(a, b ignored) int {
		return cmp.Or(cmp.Compare(b.Tensors, a.Tensors), cmp.Compare(a.Prefix, b.Prefix))
	})
	return in
}

// columns is how wide the lines of a table are without -wide.
const columns = 80

// narrow folds the rows of a report's table that are wide: the name of a parameter, cut at a
// dot if need be, and below it the rest.
func narrow(report string) string {
	table, rest, _ := strings.Cut(report, "\n\n")
	lines := strings.Split(table, "\n")
	if !slices.ContainsFunc(lines, func(line string) bool { return utf8.RuneCountInString(line) > columns }) {
		return report
	}
	var folded strings.Builder
	values := tabwriter.NewWriter(&folded, 0, 0, 2, ' ', 0)
	for _, line := range lines {
		name, others, _ := strings.Cut(line, "  ")
		if at := strings.LastIndexByte(name[:min(len(name), columns)], '.'); len(name) > columns && at > 0 {
			name = name[:at] + "\n" + name[at:]
		}
		fmt.Fprintf(values, "%s\n    %s\n", name, strings.Join(between.Split(strings.TrimSpace(others), -1), "\t"))
	}
	values.Flush()
	totals, rest, _ := strings.Cut(rest, "\n")
	if utf8.RuneCountInString(totals) > columns {
		totals = strings.Replace(totals, ":  ", ":\n    ", 1)
	}
	return folded.String() + "\n" + totals + "\n" + rest
}

// between is what stands between the columns of a table.
var between = regexp.MustCompile("  +")

// print writes the inspection for people.
func (in *inspection) print(w io.Writer, wide bool) error {
	fmt.Fprint(w, safetensors.Printable(in.Path))
	if in.ModelType != "" {
		fmt.Fprintf(w, ": %s, %s", in.ModelType, count(in.Modules, "MTP module"))
	}
	fmt.Fprint(w, "\n\n")
	if in.report != nil {
		report := in.report.String()
		if !wide {
			report = narrow(report)
		}
		_, err := fmt.Fprintf(w, "%s\nloads\n", report)
		return err
	}
	for _, p := range in.Problems {
		fmt.Fprintln(w, p.Problem)
	}
	_, err := fmt.Fprintf(w, "\ndoes not load: %s\n", count(len(in.Problems), "problem"))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
