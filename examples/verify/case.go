package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/drafthead/drafthead/examples/internal/ranks"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/mtp"
)

// caseResult is a case folder's outcome, as it is printed.
type caseResult struct {
	Case   string        `json:"case"` // name of the folder
	Path   string        `json:"path"` // of the folder, as it was given
	OK     bool          `json:"ok"`
	Error  string        `json:"error,omitempty"`
	Stages []stageResult `json:"stages"`
}

// caseRun is a case under way on one device.
type caseRun struct {
	dir     string
	rank    *ranks.Rank
	modules int // of mtp.Options
	rounds  hip.Activations
	bound   float64
	golden  *golden
	prompt  prompt
	head    *mtp.Head
	cache   *mtp.Cache
	results []stageResult

	// Sequences that hold the prompt, run by module 0 and by every module.
	firstOnly, everyModule *mtp.Sequence
}

// What results may differ by, relative to the largest magnitude of the stage.
// Products on the CPU keep activations in float32, unless the device was told to round them.
const (
	hostBound   = 1e-5
	bf16x2Bound = 1e-4 // of one product 2e-5; a stage comes after several
	bf16Bound   = 1e-2
	gpuBound    = 2e-3
)

func relativeBound(d hip.Device) float64 {
	switch info := d.Info(); {
	case info.IsGPU():
		return gpuBound
	case info.Activations == hip.ActivationsBF16x2:
		return bf16x2Bound
	case info.Activations == hip.ActivationsBF16:
		return bf16Bound
	}
	return hostBound
}

// verifyRanks runs a case on all ranks of a parallel head, each on one of the devices. The
// result is the first rank's, or that of one at which something is over its bound.
func verifyRanks(ctx context.Context, dir string, layout ranks.Layout, opened []hip.Device, modules int) (result caseResult) {
	failed := func(err error) caseResult {
		return caseResult{Case: filepath.Base(filepath.Clean(dir)), Path: dir, Error: err.Error()}
	}
	if layout.Ranks() > 1 { // what is wrong with the checkpoint is not one rank's
		if _, _, err := mtp.InspectFS(os.DirFS(dir), mtp.Options{Modules: modules}); err != nil {
			return failed(err)
		}
	}
	err := layout.On(ctx, opened, func(ctx context.Context, r *ranks.Rank) error {
		own, err := verifyCase(ctx, dir, r, modules)
		if err != nil {
			return err // ends the others
		}
		all, err := ranks.All(ctx, r, own)
		if err != nil {
			return err
		}
		if r.Number != layout.Rank { // one rank of this process tells
			return nil
		}
		result = all[0]
		if i := slices.IndexFunc(all, func(r caseResult) bool { return !r.OK }); i >= 0 {
			result = all[i]
		}
		return nil
	})
	if err != nil { // the first, of which others may be the consequence
		return failed(err)
	}
	return result
}

// verifyCase runs all stages and chains of a case folder on one rank.
func verifyCase(ctx context.Context, dir string, rank *ranks.Rank, modules int) (caseResult, error) {
	c := &caseRun{dir: dir, rank: rank, modules: modules, bound: relativeBound(rank.Device)}
	err := c.all(ctx)
	result := caseResult{Case: filepath.Base(filepath.Clean(dir)), Path: dir, OK: err == nil, Stages: c.results}
	for _, s := range c.results {
		result.OK = result.OK && s.OK
	}
	return result, err
}

func (c *caseRun) all(ctx context.Context) (err error) {
	if c.golden, err = openGolden(os.DirFS(c.dir)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.golden.close()) }()
	if c.prompt, err = c.golden.prompt(); err != nil {
		return err
	}
	err = c.withHead(ctx, mtp.Options{}, func(run *caseRun) error {
		defer func() { c.results = run.results }()
		return run.byHand(ctx)
	})
	if err != nil {
		return err
	}
	for _, rule := range slices.Concat(chains, shifted) {
		if rule.draft != "" && c.golden.has(rule.name+".ids") {
			if err := c.verifyDraft(ctx, &rule); err != nil {
				return err
			}
		}
	}
	if len(c.results) == 0 {
		return errNothing
	}
	return nil
}

var errNothing = errors.New("golden.safetensors: nothing to compare, want a stage such as l0.hidden")

// byHand is everything through Forward, FinalNorm and Logits.
func (c *caseRun) byHand(ctx context.Context) error {
	c.everyModule = c.cache.NewSequence()
	for module := range c.head.Config().NumMTPModules {
		err := c.verifyModule(ctx, module)
		if err == nil && module == 0 {
			c.firstOnly, err = c.everyModule.Fork()
		}
		if err != nil {
			return fmt.Errorf("module %d: %w", module, err)
		}
	}
	for i := range chains {
		if !c.golden.has(chains[i].name + ".ids") {
			continue
		}
		if err := c.verifyChain(ctx, &chains[i]); err != nil {
			return fmt.Errorf("%s: %w", chains[i].name, err)
		}
	}
	for _, rule := range shifted {
		if !c.golden.has(rule.name + ".ids") {
			continue
		}
		for _, name := range append([]string{rule.name}, rounds[rule.name]...) {
			if err := c.verifyShifted(ctx, rule.draft, name); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	if c.golden.has("round2.ids") {
		if err := c.verifyRound2(ctx); err != nil {
			return fmt.Errorf("round2: %w", err)
		}
	}
	return nil
}

// withHead loads the case with some options for the time of a call. The cache
// is the case's: float32, unless its metadata say otherwise.
func (c *caseRun) withHead(ctx context.Context, opts mtp.Options, do func(*caseRun) error) (err error) {
	if opts.CacheFormat, err = c.golden.cacheFormat(); err != nil {
		return err
	}
	opts.Modules, opts.Activations = c.modules, c.rounds
	run := *c
	if run.head, err = mtp.LoadFS(ctx, os.DirFS(c.dir), c.rank.Options(opts)); err != nil { // the folder is named already
		return err
	}
	defer func() { err = errors.Join(err, run.head.Close()) }()
	config := run.head.Config()
	// Room for the prompt of each module, and for the chains that fork it.
	pages := (2*config.NumMTPModules + 2) * (len(c.prompt.tokens)/config.Attention.BlockSize + 4)
	if run.cache, err = run.head.NewCache(pages); err != nil {
		return err
	}
	return do(&run)
}

func (c *caseRun) batch(seq *mtp.Sequence, position int, tokens []int32, hidden []float32) *mtp.Batch {
	return &mtp.Batch{
		Sequences: []mtp.Rows{{Sequence: seq, Tokens: tokens, Position: position}},
		Hidden:    mtp.Hidden{Float32: hidden},
	}
}

// run is one Forward; it returns the hidden states of all rows.
func (c *caseRun) run(ctx context.Context, seq *mtp.Sequence, position int, tokens []int32, hidden []float32, step int) ([]float32, error) {
	out, err := c.head.Forward(ctx, c.batch(seq, position, tokens, hidden), step)
	return out.Float32, err
}
