// Serve is a service with OpenAI's interface for completions, over a live target model and
// its MTP draft head:
//
//	serve [flags]
//
// Many requests share one ragged batch: read scheduler.go. It exits with 1 if the checkpoint
// does not load or the address is taken, and with 2 on wrong usage.
package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
)

const usageText = `Serve answers OpenAI's completions, with a target and its head.

  serve                                      # at http://localhost:8080/v1
  curl localhost:8080/v1/completions -d '{"model":"m3-tiny","prompt":"func "}'

usage: serve [flags]

It serves POST /v1/completions, GET /v1/models and GET /v1/models/{id} as OpenAI
does, GET /metrics for Prometheus under vLLM's names, and GET /healthz. The
built-in model, m3-tiny, is a small one of Go source text; a token is a byte.
The first interrupt lets running requests finish; SIGHUP loads the checkpoint
again while requests run.

exit status: 0 stopped, 1 not started or broken off, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// settings are the flags.
type settings struct {
	addr, checkpoint, deviceName string
	k                            string
	drafts                       int // of -k: the most
	maxBatch, maxPrompt          int
	maxTokens, pages, queue      int
	grace                        time.Duration
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := cli.Flags("serve", usageText, stderr)
	flags.StringVar(&s.addr, "addr", "localhost:8080", "`host:port` to listen at")
	flags.StringVar(&s.checkpoint, "checkpoint", "", "checkpoint `folder` of a target and its head; default: the built-in m3-tiny")
	devices.Var(flags, &s.deviceName)
	cli.Drafts(flags, &s.k, 0, cli.Auto)
	flags.IntVar(&s.maxBatch, "max-batch", 16, "texts that are written at the same time, at most")
	flags.IntVar(&s.maxPrompt, "max-prompt", 2048, "tokens of a prompt, at most")
	flags.IntVar(&s.maxTokens, "max-tokens", 1024, "tokens that a request may ask for, at most")
	flags.IntVar(&s.pages, "pages", 0, "pages of each cache, enough for the longest request; 0: some hundreds")
	flags.IntVar(&s.queue, "queue", 256, "texts that wait, at most; further requests are refused with status 429")
	flags.DurationVar(&s.grace, "grace", 30*time.Second, "how long running requests may go on after the first interrupt")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	if err := s.check(rest); err != nil {
		cli.Wrong(flags, "%v", err)
		return nil, err
	}
	return s, nil
}

// check reports all values of flags that are wrong.
func (s *settings) check(rest []string) error {
	var wrong cli.Refused
	wrong.If(len(rest) > 0, "unexpected arguments %q", rest)
	s.drafts = wrong.CheckDrafts(s.k, 0)
	between := func(name string, value, least, most int) {
		wrong.If(value < least || value > most, "%s is %d, want %d to %d", name, value, least, most)
	}
	between("-max-batch", s.maxBatch, 1, 1024)
	between("-max-prompt", s.maxPrompt, 1, 1<<20)
	between("-max-tokens", s.maxTokens, 1, 1<<20)
	between("-pages", s.pages, 0, 1<<20)
	between("-queue", s.queue, 1, 1<<20)
	wrong.If(s.grace < 0, "-grace is %v, want 0 or more", s.grace)
	return wrong.Err()
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	stderr = cli.Plain(stderr)
	s, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return cli.OK
	case err != nil:
		return cli.Usage
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	reloads := make(chan os.Signal, 1)
	signal.Notify(reloads, syscall.SIGHUP)
	defer signal.Stop(reloads)
	return cli.Fail(ctx, stderr, "serve", s.run(ctx, stderr, reloads))
}

func (s *settings) run(ctx context.Context, stderr io.Writer, reloads <-chan os.Signal) (err error) {
	if os.Getenv("GOGC") == "" {
		// Weights and caches are most of the heap on a CPU. They hold no pointers, so that a
		// collection costs little; one that waits for as much garbage as they have costs memory.
		debug.SetGCPercent(25)
	}
	device, err := devices.Open(s.deviceName)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	if err := devices.Compile(ctx, stderr, device); err != nil {
		return err
	}
	return newServer(s, device, slog.New(slog.NewTextHandler(stderr, nil))).listen(ctx, reloads)
}
