// Synth writes a checkpoint of random weights, with the layout and the size of a
// real MTP head, for tests of size and speed:
//
//	synth -out DIR [-shape m3|nano] [-experts N] [-format mxfp8|bf16|mxfp4|nvfp4] [-seed S]
//
// The same flags give the same bytes on every machine. Synth exits with 1 if it cannot
// write the checkpoint, and then removes what it has written, and with 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/synthetic"
)

const usage = `Synth writes a checkpoint of random weights, of a real head's layout and size.

  synth -shape nano -out DIR                 # a small one, 2.4 MB
  synth -out DIR                             # as released: 12.6 GB

usage: synth -out DIR [flags]

Folder DIR must be absent or empty. The same flags give the same bytes. Shape m3
is the released MiniMax-M3 head with its embedding and lm_head (12.6 GB as
mxfp8), nano is a small one (2.4 MB). Its drafts mean nothing. With mxfp4 and
nvfp4 the routed experts are in four bits, as compressed-tensors names them, and
the other matrices as with mxfp8 (m3: 9.0 and 9.3 GB).

exit status: 0 written, 1 not written and nothing left, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// settings are the flags.
type settings struct {
	out    string
	config synthetic.Config
	opts   synthetic.Options
}

var errUsage = errors.New("wrong usage")

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := cli.Flags("synth", usage, stderr)
	flags.StringVar(&s.out, "out", "", "`folder` to write to; absent or empty")
	shape := flags.String("shape", "m3", "`shape` of the head: m3 or nano")
	experts := flags.Int("experts", 0, "routed `experts`, fewer than the shape has; 0: all of them")
	format := flags.String("format", "mxfp8", "`format` of the matrices: "+synthetic.FormatNames)
	flags.Uint64Var(&s.opts.Seed, "seed", 0, "`seed` of the weights")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	if err := s.resolve(*shape, *experts, *format, rest); err != nil {
		cli.Wrong(flags, "%v", err)
		return nil, errUsage
	}
	return s, nil
}

// resolve turns the values of the flags into a config, and reports all that are wrong.
func (s *settings) resolve(shape string, experts int, format string, rest []string) error {
	var errs []error
	if s.out == "" {
		errs = append(errs, errors.New("want -out DIR"))
	}
	if len(rest) > 0 {
		errs = append(errs, fmt.Errorf("unexpected arguments %q", rest))
	}
	var err error
	if s.config, err = synthetic.Shape(shape); err != nil {
		errs = append(errs, fmt.Errorf("-shape: %w", err))
	} else if experts != 0 {
		if s.config, err = s.config.WithExperts(experts); err != nil {
			errs = append(errs, fmt.Errorf("-experts: %w", err))
		}
	}
	if s.opts.Format, err = synthetic.FormatOf(format); err != nil {
		errs = append(errs, fmt.Errorf("-format: %w", err))
	}
	return errors.Join(errs...)
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
	return cli.Fail(ctx, stderr, "synth", s.run(ctx, stdout, stderr))
}

func (s *settings) run(ctx context.Context, stdout, stderr io.Writer) error {
	start := time.Now()
	checkpoint, err := synthetic.New(s.config, s.opts)
	if err != nil {
		return err
	}
	progress, done := cli.Progress(stderr, "write", "bytes")
	w := writer{dir: s.out, freeSpace: freeSpace, progress: progress}
	err = w.write(ctx, checkpoint)
	done()
	if err != nil {
		return err
	}
	seconds := time.Since(start).Seconds()
	_, err = fmt.Fprintf(stdout, "%s: %s, %s parameters in %d files, %.1f s\n", s.out, cli.FormatBytes(checkpoint.Size()),
		countText(checkpoint.Parameters()), len(checkpoint.Files()), seconds)
	return err
}

// countText shortens a count: 7.49 G, 1.31 M.
func countText(n int64) string {
	switch v := float64(n); {
	case v >= 1e9:
		return fmt.Sprintf("%.2f G", v/1e9)
	case v >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	}
	return fmt.Sprint(n)
}
