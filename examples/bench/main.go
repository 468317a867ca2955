// Bench measures an MTP draft head: how long loading and drafting take, how many bytes a
// second that is, and how near it comes to the speed at which the same machine just reads
// the same memory:
//
//	bench [-checkpoint DIR | -shape m3|nano] [flags]
//
// Without arguments it measures a small head of random weights, in half a minute. It
// exits with 1 if the head does not load or run, and with 2 on wrong usage.
package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

const usage = `Bench measures how fast a head drafts, and how near that is to memory's speed.

  bench                                      # a small head of random weights
  bench -shape m3 -experts 8 -plot steps.svg # real size but for 120 experts

usage: bench [-checkpoint DIR | -shape m3|nano] [flags]
       bench -plot FILE.svg RUN.json...

It measures a checkpoint, or random weights of the real shape that are made in
memory (m3: 12.6 GB, with -experts 8 5.6 GB). Module 0 drafts.

  step           one row of one sequence, and the logits of one draft; once more
                 with an lm_head that is cheaper to read, unless -cheap=false
  chain          the drafts of one call, each from the one before
  batch          one row of each of several sequences
  commit         rows of one sequence that the target confirmed, and the draft
                 after them: all rows but the last only get keys and values
  prefill        rows of a prompt, without logits: all of them get hidden
                 states, which stay on the device
  long context   a step after more positions, of random keys

Bytes are what a call has to read, each once: the matrices, the picked experts,
lm_head, and the selected blocks of the cache. "Ceiling" says how near that
comes to plain reading of the same memory by the same threads, which is measured
before every run. Times are medians, spread is (p90 - p10) / median, GFLOP/s
counts the products with weights. A GPU has the hidden states, in bfloat16, as a
target on it leaves them. With -tp or -ep all of that is of the first device,
and "exchange" is how long its sums and gathers over the devices take by
themselves.

exit status: 0 measured, 1 not, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// settings are the flags.
type settings struct {
	checkpoint string
	shape      string
	config     synthetic.Config // of shape
	format     weights.Format   // likewise
	device     string
	layout     ranks.Layout
	modules    int
	cache      attention.CacheFormat
	activation hip.Activations
	rounding   hip.Activations // of drafts
	k          int
	batches    []int
	commits    []int // nil: the defaults that the head has positions for
	prefills   []int // likewise
	contexts   []int // likewise
	populate   bool
	time       time.Duration
	cheap      bool
	kernels    bool
	products   bool
	asJSON     bool
	saved      string // file for the JSON object beside the table
	wide       bool
	plot       string   // SVG to draw
	plots      []string // runs to draw, nil: measure one
}

var (
	defaultBatches  = []int{1, 4, 16}
	defaultCommits  = []int{4, 512}
	defaultPrefills = []int{128, 512}
	defaultContexts = []int{1024, 65536}
)

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{batches: defaultBatches}
	flags := cli.Flags("bench", usage, stderr)
	flags.StringVar(&s.checkpoint, "checkpoint", "", "checkpoint `folder`, as downloaded or as synth writes it")
	flags.StringVar(&s.shape, "shape", "", "`shape` of random weights: m3 or nano; default nano, unless there is a checkpoint")
	experts := flags.Int("experts", 0, "routed `experts` of the shape, fewer than it has; 0: all of them")
	format := flags.String("format", "", "`format` of the shape's matrices: "+synthetic.FormatNames+"; the last two are for routed experts, the others mxfp8 (default mxfp8)")
	devices.Var(flags, &s.device)
	s.layout.Var(flags)
	cli.Modules(flags, &s.modules)
	cli.Cache(flags, &s.cache, "default: bf16")
	cli.Activations(flags, &s.activation, &s.rounding)
	flags.IntVar(&s.k, "k", 4, "drafts of a chain, 1 to 64")
	counts := func(name, what string, defaults []int, less string, to *[]int) {
		flags.Func(name, fmt.Sprintf("%s, as a `list` (default: %s%s)", what, listText(defaults), less), func(text string) (err error) {
			*to, err = parseList(text)
			return err
		})
	}
	const less = ", less where the head has fewer positions"
	counts("batch", "sequences of a batch", defaultBatches, "", &s.batches)
	counts("commit", "rows of a commit", defaultCommits, less, &s.commits)
	counts("prefill", "rows of a prefill", defaultPrefills, less, &s.prefills)
	counts("context", "positions before the rows; the first is that of step, chain, batch and commit", defaultContexts, less, &s.contexts)
	flags.BoolVar(&s.cheap, "cheap", true, "measure steps that draft by 8-bit copies of lm_head and by some draft tokens")
	flags.BoolVar(&s.kernels, "kernels", false, "measure too where the time of a step goes: each kernel by itself, on one more head; and list the kernels of a GPU, and when each serves")
	flags.BoolVar(&s.products, "products", false, "measure too the products with eh_proj, lm_head and the experts that a token picks, by themselves")
	flags.BoolVar(&s.populate, "populate", true, "read a mapped checkpoint into memory while loading")
	flags.DurationVar(&s.time, "time", 3*time.Second, "how `long` each row is measured, for at least 3 runs if they are not far longer")
	flags.BoolVar(&s.wide, "wide", false, "print all of a row: experts, bytes, operations and runs too")
	flags.BoolVar(&s.asJSON, "json", false, "print one JSON object in place of a table")
	flags.StringVar(&s.saved, "out", "", "write what -json prints to a `file` too")
	flags.StringVar(&s.plot, "plot", "", "draw a `file` of SVG: step times by context; with files that follow measure nothing, and draw the runs whose -json output they are, by context or by the number of devices, or those of draft -json by the number of drafts")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	if s.plot != "" && len(rest) > 0 {
		s.plots = rest
		return s, nil
	}
	if err := s.resolve(*experts, *format, rest); err != nil {
		cli.Wrong(flags, "%v", err)
		return nil, err
	}
	return s, nil
}

// resolve checks the values of the flags and reports all that are wrong.
func (s *settings) resolve(experts int, format string, rest []string) error {
	var wrong cli.Refused
	wrong.If(len(rest) > 0, "unexpected arguments %q", rest)
	wrong.If(s.k < 1 || s.k > 64, "-k is %d, want 1 to 64", s.k)
	wrong.CheckModules(s.modules)
	s.layout.Check(&wrong)
	wrong.If(s.layout.Ranks() > 1 && (s.kernels || s.products), "-kernels and -products are for one device")
	wrong.If(s.time <= 0, "-time is %v, want more", s.time)
	wrong.If(s.checkpoint != "" && s.shape != "", "want -checkpoint or -shape, not both")
	wrong.If(s.checkpoint != "" && experts != 0, "-experts is for a -shape")
	wrong.If(s.checkpoint != "" && format != "", "-format is for a -shape")
	if s.checkpoint == "" {
		if s.shape == "" {
			s.shape = "nano"
		}
		var err error
		if s.format, err = synthetic.FormatOf(cmp.Or(format, "mxfp8")); err != nil {
			wrong.If(true, "-format: %w", err)
		}
		if s.config, err = synthetic.Shape(s.shape); err != nil {
			wrong.If(true, "-shape: %w", err)
		} else if experts != 0 {
			if s.config, err = s.config.WithExperts(experts); err != nil {
				wrong.If(true, "-experts: %w", err)
			}
		}
	}
	return wrong.Err()
}

// parseList parses counts: "1,4,16".
func parseList(text string) (values []int, err error) {
	for _, part := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > maxCount {
			return nil, fmt.Errorf("%q: want numbers from 1 to %d, with commas between them", part, maxCount)
		}
		values = append(values, n)
	}
	return values, nil
}

// maxCount bounds the sequences, rows and positions of a list.
const maxCount = 1 << 24

func listText(values []int) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(values), "[]"), " ", ",")
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stdout, stderr = cli.Plain(stdout), cli.Plain(stderr)
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.OK
	case err != nil:
		return cli.Usage
	}
	return cli.Fail(ctx, stderr, "bench", s.run(ctx, stdout, stderr))
}

func (s *settings) run(ctx context.Context, stdout, stderr io.Writer) error {
	if s.plots != nil {
		return plotFiles(s.plot, s.plots)
	}
	out, err := s.bench(ctx, stderr)
	if err != nil || !s.layout.Prints() {
		return err
	}
	if s.saved != "" {
		if err := out.save(s.saved); err != nil {
			return err
		}
	}
	if s.plot != "" {
		if err := plotRuns(s.plot, []*summary{out}); err != nil {
			return err
		}
	}
	if s.asJSON {
		return cli.WriteJSON(stdout, out)
	}
	return out.print(stdout, s.wide)
}

// save writes the summary to a file, as -json prints it.
func (s *summary) save(name string) error {
	var text bytes.Buffer
	if err := cli.WriteJSON(&text, s); err != nil {
		return err
	}
	return os.WriteFile(name, text.Bytes(), 0o644)
}
