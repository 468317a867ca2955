// Verify runs golden case folders through the draft head, stage by stage, and
// prints how far each result is from the expected one:
//
//	verify [-device D] [-tp N] [-ep N] [-check] [-json] [-v] [-wide] [-modules N] CASE...
//
// A case folder is a checkpoint with golden.safetensors beside it: inputs, the
// stages of every MTP module, and draft chains. It exits with 1 if anything is
// over its bound, and with 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

const usage = `Verify compares a head's results with recorded ones, stage by stage.

  verify mtp/testdata/golden/tiny-*          # the cases of the repository
  verify -check -device hip CASE             # which kernel is to blame?

usage: verify [flags] CASE...

It runs golden case folders (a checkpoint with golden.safetensors beside it) and
compares every stage of every MTP module, and every draft chain, with what is
stored: mtp/GUIDE.md says how to record a case. Results may differ by 1e-5 of a
stage's largest magnitude on cpu and reference, by 1e-4 on cpu:bf16x2, by 1e-2
on cpu:bf16, where other choices follow, and by 2e-3 on a GPU; choices (blocks,
experts, drafts) are equal, or reported as ties where the stored margin is
within that rounding.

With -tp or -ep every rank compares what it has: its own heads of stages that
have heads, and all of the others but the experts' summands.

With -check every kernel is compared with its reference, from the same input: if
a stage is over its bound, this names the kernel at fault.

exit status: 0 all within bounds, 1 not, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// outcome is what -json prints.
type outcome struct {
	Device string       `json:"device"`
	OK     bool         `json:"ok"`
	Cases  []caseResult `json:"cases"`
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stdout, stderr = cli.Plain(stdout), cli.Plain(stderr)
	flags := cli.Flags("verify", usage, stderr)
	var name string
	devices.Var(flags, &name)
	asJSON := flags.Bool("json", false, "print one JSON object in place of text")
	check := flags.Bool("check", false, "run every kernel beside its reference, and stop a case at the first that differs")
	verbose := flags.Bool("v", false, "print every stage, not only those over their bound")
	wide := flags.Bool("wide", false, "print each case's outcome in one line, however long")
	modules := 0
	cli.Modules(flags, &modules)
	var layout ranks.Layout
	layout.Var(flags)
	dirs, err := cli.Parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.OK
	case err != nil:
		return cli.Usage
	case len(dirs) == 0:
		cli.Wrong(flags, "want at least one case folder")
		return cli.Usage
	}
	var wrong cli.Refused
	wrong.CheckModules(modules)
	if layout.Check(&wrong); len(wrong) > 0 {
		cli.Wrong(flags, "%v", wrong.Err())
		return cli.Usage
	}
	opened, err := layout.Open(name)
	if err != nil {
		return cli.Fail(ctx, stderr, "verify", err)
	}
	for i, device := range opened {
		defer func() {
			if ctx.Err() == nil { // otherwise a case may still run; the process ends
				device.Close()
			}
		}()
		if err := devices.Compile(ctx, stderr, device); err != nil {
			return cli.Fail(ctx, stderr, "verify", err)
		}
		if *check {
			opened[i] = hip.Check(device) // which closes with the device
		}
	}
	out := outcome{Device: name, OK: true}
	for i, dir := range dirs {
		done := cli.Spinner(stderr, fmt.Sprintf("verify %s, %d of %d", safetensors.Printable(filepath.Base(dir)), i+1, len(dirs)))
		verified := make(chan caseResult, 1)
		go func() { verified <- verifyRanks(ctx, dir, layout, opened, modules) }() // which an interrupt need not wait for
		var result caseResult
		select {
		case result = <-verified:
		case <-ctx.Done():
		}
		done()
		if err := ctx.Err(); err != nil {
			return cli.Fail(ctx, stderr, "verify", err)
		}
		out.Cases = append(out.Cases, result)
		out.OK = out.OK && result.OK
		if !*asJSON && (layout.Prints() || result.Error != "") {
			if err := result.print(stdout, *verbose, *wide); err != nil {
				return cli.Fail(ctx, stderr, "verify", err)
			}
		}
	}
	if *asJSON && layout.Prints() {
		if err := cli.WriteJSON(stdout, out); err != nil {
			return cli.Fail(ctx, stderr, "verify", err)
		}
	}
	if !out.OK {
		return cli.Failed
	}
	return cli.OK
}

// print writes the case's outcome: its worst stage, and a table of the stages
// that are asked for.
func (r *caseResult) print(w io.Writer, verbose, wide bool) error {
	if r.Error != "" {
		_, err := fmt.Fprintf(w, "FAILED  %s: %s\n", safetensors.Printable(r.Path), r.Error)
		return err
	}
	verdict, worst, ties := "ok", 0.0, 0
	for _, s := range r.Stages {
		if s.MaxRef > 0 {
			worst = max(worst, s.MaxAbs/s.MaxRef)
		}
		ties += s.Ties
	}
	if !r.OK {
		verdict = "FAILED"
	}
	next := "\n        "
	if wide {
		next = " "
	}
	fmt.Fprintf(w, "%-6s  %s:"+next+"%d stages and chains, largest error %.2g of the stage's largest", verdict, safetensors.Printable(r.Path), len(r.Stages), worst)
	if ties > 0 {
		fmt.Fprintf(w, ","+next+"%d choices are ties within rounding", ties)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := false
	for _, s := range r.Stages {
		if s.OK && !verbose {
			continue
		}
		if !header {
			fmt.Fprintln(t, "        stage\terror\tbound\tlargest\t")
			header = true
		}
		mark := ""
		if !s.OK {
			mark = "over"
		}
		fmt.Fprintf(t, "        %s\t%.3g\t%.3g\t%.4g\t%s\n", safetensors.Printable(s.Name), s.MaxAbs, s.Bound, s.MaxRef, mark)
	}
	return t.Flush()
}
