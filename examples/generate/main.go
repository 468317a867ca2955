// Generate writes text with a live target model and its MTP draft head:
//
//	generate [flags]
//
// The target is the small model that comes with the library, or that of -checkpoint. At
// temperature 0 the text is the target's own, byte for byte; above it has exactly the
// target's distribution. It exits with 1 if the checkpoint does not load or a text cannot be
// written, and with 2 on wrong usage.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
	"github.com/drafthead/drafthead/examples/internal/speculate"
	"github.com/drafthead/drafthead/examples/internal/target"
	"github.com/drafthead/drafthead/mtp"
)

const usage = `Generate writes text that a head drafts and its target verifies.

  generate                                   # 256 bytes after a built-in prompt
  generate -prompt "func main" -k auto -temperature 0.7

usage: generate [flags]

The built-in model, m3-tiny, is a small one of Go source text; a token is a
byte, and texts of up to 512 bytes are what it was trained on. On a terminal,
drafts that the target accepted are green. In a pipe the output is the prompt
with its text, and nothing else; the summary goes to standard error.

exit status: 0 written, 1 not, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// settings are the flags.
type settings struct {
	prompt, file string
	n            int
	k            string
	drafts       int // of -k: the most
	sampling     mtp.Sampling
	samples      int
	noDraft      bool
	checkpoint   string
	device       string
	asJSON       bool
}

const defaultPrompt = "// Copy returns a copy of "

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := cli.Flags("generate", usage, stderr)
	flags.StringVar(&s.prompt, "prompt", "", fmt.Sprintf("`text` to go on from; default: %q", defaultPrompt))
	flags.StringVar(&s.file, "file", "", "`file` with the text to go on from")
	flags.StringVar(&s.file, "f", "", "the same as -file")
	flags.IntVar(&s.n, "n", 256, "`bytes` to write")
	cli.Drafts(flags, &s.k, 1, "4")
	flags.Float64Var(&s.sampling.Temperature, "temperature", 0, "temperature of the target; 0: the most likely byte")
	flags.Float64Var(&s.sampling.TopP, "top-p", 1, "draw from the most likely bytes that come to this `probability`")
	flags.IntVar(&s.sampling.TopK, "top-k", 0, "draw from the `N` most likely bytes; 0: all")
	flags.Float64Var(&s.sampling.MinP, "min-p", 0, "leave out bytes below this `share` of the most likely one's probability")
	flags.Uint64Var(&s.sampling.Seed, "seed", 1, "`seed` of the first sample; each further one has the next")
	flags.IntVar(&s.samples, "samples", 1, "texts to write, all in one batch")
	flags.BoolVar(&s.noDraft, "no-draft", false, "let the target write alone, a byte a pass")
	flags.StringVar(&s.checkpoint, "checkpoint", "", "checkpoint `folder` of a target and its head; default: the built-in m3-tiny")
	devices.Var(flags, &s.device)
	flags.BoolVar(&s.asJSON, "json", false, "print a JSON object for each sample, one a line")
	rest, err := cli.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if err := s.check(rest, given); err != nil {
		cli.Wrong(flags, "%v", err)
		return nil, err
	}
	return s, nil
}

// check reports all values of flags that are wrong.
func (s *settings) check(rest []string, given map[string]bool) error {
	var wrong cli.Refused
	wrong.If(len(rest) > 0, "unexpected arguments %q", rest)
	wrong.If(given["prompt"] && s.file != "", "-prompt and -file are both given, want one")
	wrong.If(given["prompt"] && s.prompt == "", "-prompt is empty, want text")
	wrong.If(s.n < 1 || s.n > 1<<20, "-n is %d, want 1 to 2^20", s.n)
	s.drafts = wrong.CheckDrafts(s.k, 1)
	v := &s.sampling
	wrong.If(!(v.Temperature >= 0 && v.Temperature <= 1e6), "-temperature is %g, want 0 to 1e6", v.Temperature)
	wrong.If(!(v.TopP > 0 && v.TopP <= 1), "-top-p is %g, want above 0, up to 1", v.TopP)
	wrong.If(v.TopK < 0, "-top-k is %d, want 0 or more", v.TopK)
	wrong.If(!(v.MinP >= 0 && v.MinP <= 1), "-min-p is %g, want 0 to 1", v.MinP)
	wrong.If(s.samples < 1 || s.samples > 1024, "-samples is %d, want 1 to 1024", s.samples)
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
	return cli.Fail(ctx, stderr, "generate", s.run(ctx, stdout, stderr))
}

// readPrompt returns the prompt's bytes as tokens.
func (s *settings) readPrompt() ([]int32, error) {
	text := []byte(cmp.Or(s.prompt, defaultPrompt))
	if s.file != "" {
		var err error
		if text, err = os.ReadFile(s.file); err != nil {
			return nil, fmt.Errorf("-file: %w; want a file with text to go on from", err)
		}
		if len(text) == 0 {
			return nil, fmt.Errorf("%s is empty, want text", s.file)
		}
	}
	tokens := make([]int32, len(text))
	for i, b := range text {
		tokens[i] = int32(b)
	}
	return tokens, nil
}

func (s *settings) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	prompt, err := s.readPrompt()
	if err != nil {
		return err
	}
	device, err := devices.Open(s.device)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	if err := devices.Compile(ctx, stderr, device); err != nil {
		return err
	}
	folder, name, err := target.Open(s.checkpoint)
	if err != nil {
		return err
	}
	if err := target.Find(folder); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	progress, loaded := cli.Progress(stderr, "load", "bytes")
	head, err := mtp.LoadFS(ctx, folder, mtp.Options{Device: device, MaxDraft: s.drafts, Progress: progress, CacheFormat: attention.CacheF32})
	loaded()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	c := head.Config()
	if most := c.Attention.Rope.Positions; len(prompt)+s.n > most {
		return cli.WrongUsage("the prompt has %d bytes and -n is %d, want at most %d together, the model's positions", len(prompt), s.n, most)
	}
	if c.VocabSize != 256 {
		return fmt.Errorf("the model has %d tokens, want 256, one for each byte", c.VocabSize)
	}
	pages := s.samples * ((len(prompt)+s.n+s.drafts)/c.Attention.BlockSize + 1)
	model, err := target.Load(ctx, folder, head, pages, attention.CacheF32, nil)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	cache, err := head.NewCache(pages)
	if err != nil {
		return err
	}
	engine := &speculate.Engine{Target: model, Head: head, Cache: cache}
	defer func() { err = errors.Join(err, engine.Close()) }()
	if s.k == cli.Auto {
		engine.Controller = mtp.NewController(s.drafts)
	}
	return s.generate(ctx, engine, prompt, newPrinter(s, stdout, stderr))
}
