// Embed shows how an inference engine or a service embeds the draft head: a small
// scheduler serves several requests at a time, with one ragged Draft a round,
// verification by the target, and a cache that may be too small for all of them:
//
//	embed [-device D] [-sequences N] [-pages N] [-k N] [-modules N] [-json]
//
// Recorded traces play the target. Embed exits with 1 if a text differs from the target's
// own, and with 2 on wrong usage.
//
// Read scheduler.go: the rest is flags and the stand-in for a target.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
	"github.com/drafthead/drafthead/examples/internal/m3tiny"
	"github.com/drafthead/drafthead/mtp"
)

const usage = `usage: embed [flags]

Serves the three built-in traces as requests to a small scheduler: as many at a
time as -sequences and the pages of the cache allow. Each round is one Draft for
all of them, one pass of the target, played by the traces, and the rows that it
confirmed. If the cache is full, the youngest request gives up its pages and starts
again later. Near the last position chains get shorter. The output is the target's
own text, token by token.

exit status: 0 all texts are the target's, 1 not, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// outcome is what -json prints.
type outcome struct {
	Device       string          `json:"device"`
	Rounds       int             `json:"rounds"`
	Preemptions  int             `json:"preemptions"`
	MostPages    int             `json:"most_pages"`
	Requests     []requestResult `json:"requests"`
	TokensPerRun float64         `json:"tokens_per_target_pass"`
}

type requestResult struct {
	Name     string `json:"name"`
	Tokens   int    `json:"tokens"` // that came out
	Rounds   int    `json:"rounds"`
	Accepted int    `json:"accepted"` // drafts
	Exact    bool   `json:"exact"`    // the text is the target's own
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stdout, stderr = cli.Plain(stdout), cli.Plain(stderr)
	flags := flag.NewFlagSet("embed", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	var s settings
	devices.Var(flags, &s.device)
	flags.IntVar(&s.sequences, "sequences", 4, "requests that are served at the same time, at most")
	flags.IntVar(&s.pages, "pages", 0, "pages of the cache, enough for the longest request alone; 0: enough for all sequences")
	flags.IntVar(&s.k, "k", 4, "drafts a round, 1 to 64")
	cli.Modules(flags, &s.modules)
	asJSON := flags.Bool("json", false, "print one JSON object in place of text")
	rest, err := cli.Parse(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.OK
	case err != nil:
		return cli.Usage
	}
	var out *outcome
	if err = s.check(rest); err == nil {
		out, err = s.serve(ctx, stderr)
	}
	if err == nil && *asJSON {
		err = cli.WriteJSON(stdout, out)
	} else if err == nil {
		err = out.print(stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "embed:", err)
		return cli.Code(err)
	}
	for _, r := range out.Requests {
		if !r.Exact {
			return cli.Failed
		}
	}
	return cli.OK
}

// settings are the flags.
type settings struct {
	device              string
	sequences, pages, k int
	modules             int
}

// check reports all values of flags that are wrong.
func (s *settings) check(rest []string) error {
	var wrong cli.Refused
	wrong.If(len(rest) > 0, "unexpected arguments %q", rest)
	wrong.If(s.sequences < 1, "-sequences is %d, want 1 or more", s.sequences)
	wrong.If(s.pages < 0, "-pages is %d, want 0 or more", s.pages)
	wrong.If(s.k < 1 || s.k > 64, "-k is %d, want 1 to 64", s.k)
	wrong.CheckModules(s.modules)
	return wrong.Err()
}

// resolvePages returns the pages of the cache, which have to be enough for the longest
// request: the rows of all its text but the last token, and what a chain writes after them.
func (s *settings) resolvePages(traces []*m3tiny.Trace, pageSize int) (int, error) {
	longest := slices.MaxFunc(traces, func(a, b *m3tiny.Trace) int { return len(a.Tokens) - len(b.Tokens) })
	least := (len(longest.Tokens) - 1 + s.k - 1 + pageSize - 1) / pageSize
	switch {
	case s.pages == 0:
		return s.sequences * least, nil
	case s.pages < least:
		return 0, cli.WrongUsage("-pages is %d, want at least %d of %d tokens: %s has %d tokens, and -k is %d",
			s.pages, least, pageSize, longest.Name, len(longest.Tokens), s.k)
	}
	return s.pages, nil
}

// serve runs all traces as requests.
func (s *settings) serve(ctx context.Context, stderr io.Writer) (out *outcome, err error) {
	traces, err := m3tiny.Traces()
	if err != nil {
		return nil, err
	}
	config, err := mtp.ReadConfig(m3tiny.Checkpoint())
	if err != nil {
		return nil, err
	}
	pages, err := s.resolvePages(traces, config.Attention.BlockSize)
	if err != nil {
		return nil, err
	}
	device, err := devices.Open(s.device)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	if err := devices.Compile(ctx, stderr, device); err != nil {
		return nil, err
	}
	head, err := mtp.LoadFS(ctx, m3tiny.Checkpoint(), mtp.Options{Device: device, Modules: s.modules})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	cache, err := head.NewCache(pages)
	if err != nil {
		return nil, err
	}
	requests := &scheduler{head: head, cache: cache, most: s.sequences, k: s.k}
	for _, t := range traces {
		requests.submit(newReplay(t))
	}
	progress, done := cli.Progress(stderr, "serve", "requests")
	defer done()
	for requests.busy() {
		if err := requests.round(ctx); err != nil {
			return nil, err
		}
		progress(int64(len(requests.finished)), int64(len(traces)))
	}
	return requests.outcome(s.device), nil
}

// outcome sums up what was served, in the order of submission.
func (s *scheduler) outcome(device string) *outcome {
	out := &outcome{Device: device, Rounds: s.rounds, Preemptions: s.preemptions, MostPages: s.mostPages}
	tokens, passes := 0, 0
	slices.SortFunc(s.finished, func(a, b *request) int { return a.number - b.number })
	for _, r := range s.finished {
		out.Requests = append(out.Requests, requestResult{
			Name: r.target.name(), Tokens: len(r.text), Rounds: r.rounds, Accepted: r.accepted, Exact: r.target.wrote(r.text),
		})
		tokens, passes = tokens+len(r.text), passes+r.rounds
	}
	out.TokensPerRun = float64(tokens) / float64(max(passes, 1))
	return out
}

func (o *outcome) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "request\ttokens\trounds\taccepted\ttokens a round\ttext\t")
	for _, r := range o.Requests {
		text := "the target's"
		if !r.Exact {
			text = "NOT the target's"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.2f\t%s\t\n", r.Name, r.Tokens, r.Rounds, r.Accepted, float64(r.Tokens)/float64(max(r.Rounds, 1)), text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d rounds, %.2f tokens for each pass of the target, %d pages at most, %d preemptions\n", o.Rounds, o.TokensPerRun, o.MostPages, o.Preemptions)
	return err
}
