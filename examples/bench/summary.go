package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/plot"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// summary is what -json prints.
type summary struct {
	Checkpoint string `json:"checkpoint"`
	Device     string `json:"device"`
	DeviceName string `json:"device_name"`
	Threads    int    `json:"threads"`

	TensorParallel int `json:"tp"`
	ExpertParallel int `json:"ep"`

	CeilingGBps     float64 `json:"ceiling_gbps"`     // median over all reads between the runs
	CeilingSpread   float64 `json:"ceiling_spread"`   // (p90 − p10) ÷ median
	CeilingPrefetch int64   `json:"ceiling_prefetch"` // bytes ahead, the best that was found

	PeakRSSBytes  int64   `json:"peak_rss_bytes"`  // mapped weights included; 0: not known here
	PeakHeapBytes int64   `json:"peak_heap_bytes"` // beyond the weights, after the rows; 0: not known here
	WeightBytes   int64   `json:"weight_bytes"`
	CacheBytes    int64   `json:"cache_bytes"`
	LoadSeconds   float64 `json:"load_seconds"`
	// FirstDraftSeconds is from the start of the load to the end of the first draft.
	FirstDraftSeconds float64 `json:"first_draft_seconds"`

	Upload *upload `json:"upload,omitempty"` // to a GPU

	Rows []row `json:"rows"`

	Kernels            []kernelTime `json:"kernels,omitempty"`              // of a step, the longest first; with -kernels
	KernelsStepSeconds float64      `json:"kernels_step_seconds,omitempty"` // a step whose launches wait for each other
}

// columns is how wide lines are without -wide.
const columns = 80

// print writes the table, with all that a row has if wide is set.
func (s *summary) print(w io.Writer, wide bool) error {
	fmt.Fprintf(w, "%s\n%s\n\n", safetensors.Printable(s.Checkpoint), s.DeviceName)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	if wide {
		fmt.Fprintln(table, "work\trows\tcontext\texperts\tMB read\tms\tspread\tGB/s\tof ceiling\tGFLOP/s\truns\t")
	} else {
		fmt.Fprintln(table, "work\trows\tcontext\tms\tspread\tGB/s\tceiling\t")
	}
	for i := range s.Rows {
		if r := &s.Rows[i]; wide {
			r.printWide(table)
		} else {
			r.print(table)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, r := range s.Rows {
		if r.Error != "" {
			fmt.Fprintf(w, "\n%s: %s\n", r.Work, r.Error)
		}
	}
	fmt.Fprintf(w, "\nread ceiling   %s GB/s, spread %.1f %%, of the same %d threads between the runs\n", plot.Digits(s.CeilingGBps), 100*s.CeilingSpread, s.Threads)
	fmt.Fprintf(w, "load           %s s, to the first draft %s s\n", plot.Digits(s.LoadSeconds), plot.Digits(s.FirstDraftSeconds))
	if s.Upload != nil {
		s.Upload.print(w)
	}
	fmt.Fprintf(w, "weights        %s, cache %s\n", cli.FormatBytes(s.WeightBytes), cli.FormatBytes(s.CacheBytes))
	if s.PeakRSSBytes > 0 {
		fmt.Fprintf(w, "peak memory    %s resident, %s beyond the weights\n", cli.FormatBytes(s.PeakRSSBytes), cli.FormatBytes(s.PeakHeapBytes))
	}
	if err := s.printGraphs(w); err != nil {
		return err
	}
	if err := s.printExchange(w); err != nil {
		return err
	}
	if len(s.Kernels) > 0 {
		if err := s.printKernels(w); err != nil {
			return err
		}
		return printDeclared(w)
	}
	return nil
}

// print writes a row of a table that fits a terminal.
func (r *row) print(table io.Writer) {
	work := strings.ReplaceAll(r.title(), " draft tokens", " tokens")
	if r.Error != "" {
		fmt.Fprintf(table, "%s\t%d\t%d%s\n", work, r.Rows, r.Context, strings.Repeat("\t-", 4)+"\t")
		return
	}
	fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%.1f %%\t%s\t%.1f %%\t\n", work, r.Rows, r.Context,
		plot.Digits(r.Seconds*1e3), 100*r.Spread, plot.Digits(r.GBps), 100*r.Ratio)
}

// printWide writes all that a row has.
func (r *row) printWide(table io.Writer) {
	work := r.title()
	if r.Error != "" {
		fmt.Fprintf(table, "%s\t%d\t%d%s\n", work, r.Rows, r.Context, strings.Repeat("\t-", 8)+"\t")
		return
	}
	fmt.Fprintf(table, "%s\t%d\t%d\t%.1f\t%s\t%s\t%.1f %%\t%s\t%.1f %%\t%s\t%d\t\n", work, r.Rows, r.Context, r.Experts,
		plot.Digits(float64(r.Bytes)/1e6), plot.Digits(r.Seconds*1e3), 100*r.Spread, plot.Digits(r.GBps), 100*r.Ratio, plot.Digits(r.GFlops), r.Runs)
}
