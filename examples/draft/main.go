// Draft runs the MTP draft head along recorded traces of its target model and shows how
// many of its drafts the target confirms:
//
//	draft [flags] [TRACE...]
//
// Without arguments it drafts with a small trained checkpoint, along traces that
// are built in. With -conventions it finds out how a checkpoint wants to be fed: README.md
// has the symptoms of wrong ways, and a recipe to write traces. It exits with 1 if the checkpoint does not load or a draft
// cannot be made, and with 2 on wrong usage.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/devices"
	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

const usage = `Draft shows how many of a head's drafts its target confirms.

  draft                                      # the built-in model and its texts
  draft -conventions -checkpoint DIR TRACE   # how does a head want to be fed?

usage: draft [flags] [TRACE...]

It drafts along recorded traces of a target model, and the recorded text
verifies the drafts. Without flags: the built-in m3-tiny checkpoint (a
byte-level model of Go source text) and its three traces.

A trace is a safetensors file: prompt_len I64 [1], tokens I64 [N], hidden BF16
[N, hidden_size]; optionally drafts I64 [N, K] and margin F32 [N, K], which the
drafts are compared with (a mismatch is a difference at a margin of 1e-3 or
more), and hidden_pre, as hidden, but before the target's final norm (for
-conventions). If its metadata has lm_head, "sha256:" and the hash of the
target's lm_head in bfloat16, the trace is refused with another model's
checkpoint. The built-in traces have it. examples/draft/README.md says how to
write one.

exit status: 0 drafted, 1 not, 2 wrong usage

flags:
`

func main() { cli.Main(run) }

// settings are the flags.
type settings struct {
	checkpoint string
	traces     []string
	k          int
	device     string
	layout     ranks.Layout
	modules    int
	chain      string
	postNorm   bool
	minProb    float64
	cache      attention.CacheFormat
	activation hip.Activations
	rounding   hip.Activations // of drafts
	cheaper    cheaper
	show       int
	asJSON     bool

	conventions bool
	seen        []float64
}

func parse(args []string, stderr io.Writer) (*settings, error) {
	s := &settings{}
	flags := cli.Flags("draft", usage, stderr)
	flags.StringVar(&s.checkpoint, "checkpoint", "", "checkpoint `folder`; default: the built-in m3-tiny")
	flags.Func("trace", "trace `file`; may be repeated, and further files may follow; default: the built-in traces", func(name string) error {
		s.traces = append(s.traces, name)
		return nil
	})
	flags.IntVar(&s.k, "k", 4, "drafts per step, 1 to 64")
	devices.Var(flags, &s.device)
	s.layout.Var(flags)
	cli.Modules(flags, &s.modules)
	flags.StringVar(&s.chain, "chain", "", "`rule` for several modules: chain, chain_mod_own, chain_aligned or chain_target; default: chain_aligned")
	flags.BoolVar(&s.postNorm, "postnorm", false, "feed later steps with the hidden state after the final norm")
	flags.Float64Var(&s.minProb, "min-prob", 0, "end a chain before a draft of lower `probability`, 0 to 1")
	s.cache = attention.CacheF32
	cli.Cache(flags, &s.cache, "default: f32, as the traces were recorded")
	flags.BoolFunc("bf16-cache", "the same as -cache bf16, as engines do", func(string) error {
		s.cache = attention.CacheBF16
		return nil
	})
	cli.Activations(flags, &s.activation, &s.rounding)
	flags.StringVar(&s.cheaper.format, "draft-lm-head", "stored", lmHeadUsage)
	flags.StringVar(&s.cheaper.vocab, "draft-vocab", "", vocabUsage)
	flags.IntVar(&s.show, "show", 12, "`steps` of the first trace to show as text")
	flags.BoolVar(&s.asJSON, "json", false, "print one JSON object in place of text")
	flags.BoolVar(&s.conventions, "conventions", false, conventionsUsage)
	flags.Func("seen", "acceptance by draft position that an engine shows, as `0.11,0.03`: with -conventions, name what it comes from", s.setSeen)
	more, err := cli.Parse(flags, args)
	if err != nil {
		return nil, err
	}
	s.traces = append(s.traces, more...)
	if err := errors.Join(s.check(), s.checkConventions(flags)); err != nil {
		cli.Wrong(flags, "%v", err)
		return nil, err
	}
	return s, nil
}

// check reports all values of flags that are wrong.
func (s *settings) check() error {
	var wrong cli.Refused
	wrong.If(s.k < 1 || s.k > 64, "-k is %d, want 1 to 64", s.k)
	switch mtp.Chain(s.chain) {
	case "", mtp.ChainFirst, mtp.ChainModOwn, mtp.ChainAligned, mtp.ChainTarget:
	default:
		wrong.If(true, "-chain is %s, want %s, %s, %s or %s", s.chain, mtp.ChainFirst, mtp.ChainModOwn, mtp.ChainAligned, mtp.ChainTarget)
	}
	wrong.CheckModules(s.modules)
	s.layout.Check(&wrong)
	wrong.If(s.conventions && s.layout.Ranks() > 1, "-conventions runs on one device, not with -tp or -ep")
	wrong.If(!(s.minProb >= 0 && s.minProb <= 1), "-min-prob is %g, want 0 to 1", s.minProb)
	wrong.If(s.show < 0, "-show is %d, want 0 or more", s.show)
	return errors.Join(wrong.Err(), s.cheaper.check())
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
	return cli.Fail(ctx, stderr, "draft", s.run(ctx, stdout, stderr))
}

func (s *settings) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	traces, err := s.readTraces()
	if err != nil {
		return err
	}
	if err := checkPairing(s.folder(), traces); err != nil {
		return err
	}
	if s.checkpoint != "" && s.layout.Ranks() > 1 { // what is wrong with it is not one rank's
		if _, _, err := mtp.Inspect(s.checkpoint, mtp.Options{Modules: s.modules}); err != nil {
			return err
		}
	}
	opened, err := s.layout.Open(s.device)
	if err != nil {
		return err
	}
	for _, d := range opened {
		defer func() { err = errors.Join(err, d.Close()) }()
	}
	for _, d := range opened {
		if err := devices.Compile(ctx, stderr, d); err != nil {
			return err
		}
	}
	device := opened[0]
	opts := mtp.Options{
		Device: device, Chain: mtp.Chain(s.chain), PostNorm: s.postNorm, MaxDraft: s.k, Modules: s.modules,
		CacheFormat: s.cache, Activations: s.activation, DraftActivations: s.rounding,
	}
	load := func(opts mtp.Options) (*mtp.Head, error) { return s.load(ctx, opts, stderr) }
	if s.conventions {
		out, err := s.tryConventions(ctx, traces, opts, load, stderr)
		if err != nil {
			return err
		}
		out.Checkpoint, out.Device = cmp.Or(s.checkpoint, builtIn), s.device
		if s.asJSON {
			return cli.WriteJSON(stdout, out)
		}
		return out.print(stdout)
	}
	out, err := s.serveRanks(ctx, opened, traces, opts, stderr)
	if err != nil {
		return err
	}
	if !s.layout.Prints() {
		return nil
	}
	out.Checkpoint, out.Device = cmp.Or(s.checkpoint, builtIn), s.device
	out.TensorParallel, out.ExpertParallel = s.layout.Tensor, s.layout.Expert
	if s.asJSON {
		return cli.WriteJSON(stdout, out)
	}
	if len(out.Traces) > 0 && s.show > 0 {
		if err := printSteps(stdout, out.Traces[0]); err != nil {
			return err
		}
	}
	return out.print(stdout, device.Info().Name)
}

// builtIn names the built-in checkpoint.
const builtIn = "m3-tiny (built in)"

// load loads the checkpoint, with a bar.
func (s *settings) load(ctx context.Context, opts mtp.Options, stderr io.Writer) (*mtp.Head, error) {
	progress, loaded := cli.Progress(stderr, "load", "bytes")
	defer loaded()
	opts.Progress = progress
	if s.checkpoint != "" {
		return mtp.Load(ctx, s.checkpoint, opts)
	}
	head, err := mtp.LoadFS(ctx, m3tiny.Checkpoint(), opts)
	if err != nil {
		err = fmt.Errorf("%s: %w", builtIn, err)
	}
	return head, err
}

func (s *settings) readTraces() ([]*m3tiny.Trace, error) {
	if len(s.traces) == 0 {
		return m3tiny.Traces()
	}
	var traces []*m3tiny.Trace
	for _, name := range s.traces {
		t, err := m3tiny.ReadTrace(paths{}, filepath.ToSlash(name))
		if err != nil {
			return nil, fmt.Errorf("%w; draft -h says what a trace holds", err)
		}
		traces = append(traces, t)
	}
	return traces, nil
}

// paths is the file system by names as the user writes them, so that an error names a file
// once and wholly.
type paths struct{}

func (paths) Open(name string) (fs.File, error)     { return os.Open(name) }
func (paths) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// serveRanks serves the traces on all ranks of a parallel head at once, each on one of the
// devices. All must draft the same; the result is that of this process's first rank.
func (s *settings) serveRanks(ctx context.Context, opened []hip.Device, traces []*m3tiny.Trace, opts mtp.Options, stderr io.Writer) (*summary, error) {
	outs := make([]*summary, s.layout.Ranks())
	err := s.layout.On(ctx, opened, func(ctx context.Context, r *ranks.Rank) (err error) {
		stderr := stderr
		if !r.First() {
			stderr = io.Discard
		}
		load := func(opts mtp.Options) (*mtp.Head, error) { return s.load(ctx, r.Options(opts), stderr) }
		head, err := load(opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, head.Close()) }()
		out, err := s.serveAll(ctx, head, traces, opts, load, stderr)
		if err != nil {
			return err
		}
		outs[r.Number] = out
		return out.join(ctx, r)
	})
	if err != nil {
		return nil, err
	}
	return outs[s.layout.Rank], nil
}

// served is what ranks tell each other of their results.
type served struct {
	Drafts      [][]int32 // by trace, of every step, one after another
	DraftLMHead comparison
}

// join compares the drafts with those of the first rank, and adds what the others have of
// lm_head.
func (s *summary) join(ctx context.Context, r *ranks.Rank) error {
	var own served
	for _, t := range s.Traces {
		own.Drafts = append(own.Drafts, t.all)
	}
	if s.DraftLMHead != nil {
		own.DraftLMHead = *s.DraftLMHead
	}
	all, err := ranks.All(ctx, r, own)
	if err != nil {
		return err
	}
	for rank, other := range all {
		for i, t := range s.Traces {
			if !slices.Equal(other.Drafts[i], all[0].Drafts[i]) {
				return fmt.Errorf("%s: rank %d drafts otherwise than rank 0", t.Name, rank)
			}
		}
		if s.DraftLMHead != nil && rank != r.Number {
			s.DraftLMHead.addRank(&other.DraftLMHead)
		}
	}
	return nil
}

// serveAll serves the traces with the head. With the flags of a cheaper lm_head it
// serves them with that, the exact head beside it, and then with the exact head.
func (s *settings) serveAll(ctx context.Context, exact *mtp.Head, traces []*m3tiny.Trace, opts mtp.Options, load func(mtp.Options) (*mtp.Head, error), stderr io.Writer) (out *summary, err error) {
	if !s.cheaper.wanted() {
		return s.draft(ctx, exact, nil, traces, stderr)
	}
	head, err := s.cheaper.load(exact, traces, opts, load)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, head.Close()) }()
	if out, err = s.draft(ctx, head, exact, traces, stderr); err != nil {
		return nil, err
	}
	alone, err := s.draft(ctx, exact, nil, traces, stderr)
	if err != nil {
		return nil, err
	}
	out.DraftLMHead = compare(head, exact, out, alone)
	return out, nil
}

// draft serves all traces, with one bar over their tokens; exact, if given, drafts
// beside the head.
func (s *settings) draft(ctx context.Context, head, exact *mtp.Head, traces []*m3tiny.Trace, stderr io.Writer) (*summary, error) {
	longest, total := 0, 0
	for _, t := range traces {
		longest, total = max(longest, len(t.Tokens)), total+len(t.Tokens)-1-t.PromptLen
	}
	newDrafter := func(head *mtp.Head) (*drafter, error) {
		cache, err := head.NewCache((longest+s.k)/head.Config().Attention.BlockSize + 1)
		return &drafter{head, mtp.Chain(s.chain), cache, s.minProb}, err
	}
	d, err := newDrafter(head)
	if err != nil {
		return nil, err
	}
	var beside *drafter
	if exact != nil {
		if beside, err = newDrafter(exact); err != nil {
			return nil, err
		}
	}
	progress, done := cli.Progress(stderr, "draft", "tokens")
	defer done()
	out := &summary{K: s.k}
	before := 0
	for i, t := range traces {
		show := 0
		if i == 0 {
			show = s.show
		}
		r, err := serve(ctx, d, beside, t, s.k, show, func(n int) { progress(int64(before+n), int64(total)) })
		if err != nil {
			return nil, err
		}
		before += len(t.Tokens) - 1 - t.PromptLen
		out.Traces = append(out.Traces, r)
	}
	out.finish()
	return out, nil
}
