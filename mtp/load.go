package mtp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Report says what a checkpoint holds for the head. It prints as a table.
type Report = weights.Report

// Load opens the checkpoint folder dir and loads its MTP head, bundled with the target
// or standalone: config.json, and the weights in the shards that hold the head by
// model.safetensors.index.json, or without an index in every *.safetensors file of the
// folder: see [weights.OpenCheckpoint]. No two of the files may hold the same tensor.
//
// Headers are read first and every parameter is matched to its tensors; only if
// everything fits are bytes moved. What does not fit is a [*ConfigError], a
// [*safetensors.FormatError] or a [*weights.Problem], all of them together after the name of
// the folder: [weights.Problems] lists them. An option that does not fit is an
// [*InputError]. Nothing is skipped and nothing is left uninitialized.
// A device that compiles kernels is told to before the bytes move, so that one that
// does not compile is an error here and not in the first draft.
// On any error, the end of ctx among them, all that was taken is given back.
//
// The checkpoint's files must not change while the head is open: on a CPU they
// are used in place.
func Load(ctx context.Context, dir string, opts Options) (*Head, error) {
	if err := checkFolder(dir); err != nil {
		return nil, err
	}
	head, err := LoadFS(ctx, os.DirFS(dir), opts)
	return head, inFolder(dir, err)
}

// LoadFS is [Load] from a file system. Files that are operating-system files are
// memory-mapped, those in memory are used where they are, and
// others are read into the device's memory.
func LoadFS(ctx context.Context, fsys fs.FS, opts Options) (h *Head, err error) {
	start := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	checkpoint, config, plan, err := inspect(fsys, opts)
	if err != nil {
		return nil, err
	}
	h = &Head{config: config, options: opts, report: plan.Report(), device: opts.Device, checkpoint: checkpoint}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.release())
			h = nil
		}
	}()
	if h.device == nil {
		h.device, h.ownsDevice = hip.NewHost(), true
	}
	if c, ok := hip.As[hip.Compiler](h.device); ok {
		if err = c.Compile(ctx, hip.Kernels()...); err != nil {
			return h, fmt.Errorf("load: %w", err)
		}
	}
	progress, stored := opts.Progress, h.report.Bytes
	if requantized := config.requantizedBytes(plan, opts); progress != nil && requantized > 0 {
		progress = func(done, _ int64) { opts.Progress(done, stored+requantized) }
	}
	h.loaded, err = plan.Load(ctx, h.device, weights.LoadOptions{Progress: progress, Populate: opts.Populate})
	if err != nil {
		return h, fmt.Errorf("load: %w", err)
	}
	if !h.loaded.InPlace() {
		h.checkpoint = nil
		if err := checkpoint.Close(); err != nil {
			return h, err
		}
	}
	if err := h.build(); err != nil {
		return h, err
	}
	if progress != nil {
		progress = func(done, total int64) { opts.Progress(stored+done, stored+total) }
	}
	if err := h.buildDraftLMHead(ctx, progress); err != nil {
		return h, fmt.Errorf("lm_head for drafting: %w", err)
	}
	if opts.Logger != nil {
		opts.Logger.InfoContext(ctx, "MTP head loaded", "modules", config.NumMTPModules, "parameters", h.report.Parameters,
			"bytes", h.report.Bytes, "device", h.device.Info().Name, "duration", time.Since(start))
		if m := h.drafts.matrix; len(h.drafts.made) > 0 {
			opts.Logger.InfoContext(ctx, "lm_head for drafting", "tokens", m.Rows, "format", m.Segments[0].Format.String(), "bytes", m.Bytes())
		}
		for _, note := range h.report.Notes {
			opts.Logger.WarnContext(ctx, note)
		}
	}
	return h, nil
}

// Inspect reads the config and the headers in dir and reports what Load would
// take, or the problems that Load would report, without a device and without reading
// weights. Options that say which parameters are wanted are heeded.
func Inspect(dir string, opts Options) (*Config, *Report, error) {
	if err := checkFolder(dir); err != nil {
		return nil, nil, err
	}
	config, report, err := InspectFS(os.DirFS(dir), opts)
	return config, report, inFolder(dir, err)
}

// InspectFS is [Inspect] from a file system. The config is returned also with an
// error, if it could be read.
func InspectFS(fsys fs.FS, opts Options) (*Config, *Report, error) {
	checkpoint, config, plan, err := inspect(fsys, opts)
	if err != nil {
		return config, nil, err
	}
	return config, plan.Report(), checkpoint.Close()
}

// inspect returns an open checkpoint and its plan, or with an error none.
func inspect(fsys fs.FS, opts Options) (*safetensors.Folder, *Config, *weights.Plan, error) {
	config, configErr := ReadConfig(fsys)
	checkpoint, err := weights.OpenCheckpoint(fsys)
	if err = errors.Join(configErr, err); err != nil {
		if checkpoint != nil {
			err = errors.Join(err, checkpoint.Close())
		}
		return nil, config, nil, err
	}
	plan, err := config.plan(checkpoint, opts)
	if err != nil {
		return nil, config, nil, errors.Join(err, checkpoint.Close())
	}
	return checkpoint, config, plan, nil
}

func (c *Config) plan(checkpoint *safetensors.Folder, opts Options) (*weights.Plan, error) {
	if err := c.checkOptions(opts); err != nil {
		return nil, err
	}
	params, err := c.Parameters(opts.Parallel)
	if err != nil {
		return nil, err
	}
	wanted := params[:0]
	for _, p := range params {
		if p.Name == embedTokens && opts.Embed != nil || p.Name == lmHead && opts.LMHead != nil {
			continue
		}
		wanted = append(wanted, p)
	}
	var planOptions weights.PlanOptions
	if q := c.Quantization; q != nil {
		planOptions.Block = [2]int{q.BlockRows, q.BlockCols}
	}
	plan, err := weights.NewPlan(checkpoint, wanted, planOptions)
	if err != nil {
		return nil, err
	}
	plan.Report().Notes = append(plan.Report().Notes, c.quantizationNotes(checkpoint)...)
	return plan, nil
}

func (c *Config) checkOptions(opts Options) error {
	var errs []error
	refuseIf := func(bad bool, field string, got any, want string) {
		if bad {
			errs = append(errs, refuse("Options."+field, got, want, nil))
		}
	}
	_, err := opts.Chain.resolve(c.NumMTPModules)
	errs = append(errs, err)
	refuseIf(opts.MaxDraft < 0 || opts.MaxDraft > maxDraft, "MaxDraft", opts.MaxDraft, fmt.Sprintf("0 to %d", maxDraft))
	refuseIf(opts.CacheFormat != attention.CacheBF16 && opts.CacheFormat != attention.CacheF32, "CacheFormat", opts.CacheFormat, "CacheBF16 or CacheF32")
	for _, m := range []struct {
		field  string
		matrix *weights.Matrix
	}{{"Embed", opts.Embed}, {"LMHead", opts.LMHead}} {
		if m.matrix != nil {
			refuseIf(m.matrix.Rows != c.VocabSize || m.matrix.Cols != c.HiddenSize, m.field,
				fmt.Sprintf("%d × %d", m.matrix.Rows, m.matrix.Cols), fmt.Sprintf("%d × %d", c.VocabSize, c.HiddenSize))
		}
	}
	format, whole := opts.DraftLMHead, opts.Parallel.Tensor.Whole() && opts.Parallel.Expert.Whole()
	refuseIf(!whole && (format != 0 || opts.DraftVocabulary != nil), "Parallel", fmt.Sprintf("%+v", opts.Parallel), "a whole head, with DraftLMHead or DraftVocabulary")
	refuseIf(format != 0 && format != weights.MXFP8 && format != weights.INT8, "DraftLMHead", format, "MXFP8, INT8, or 0 for as stored")
	errs = append(errs, checkDraftVocabulary(opts.DraftVocabulary, c.VocabSize))
	refuseIf((opts.Embed != nil || opts.LMHead != nil) && opts.Device == nil, "Device", "nil", "the device of Embed and LMHead")
	return errors.Join(errs...)
}

// quantizationNotes says where the config and the stored tensors disagree on
// what is quantized. The tensors are right; an engine that believes the config
// misreads them. Nothing depends on it, so that a pattern which takes too long is
// a note too, and not an error that comes and goes with the machine's load.
func (c *Config) quantizationNotes(checkpoint *safetensors.Folder) []string {
	if c.Quantization == nil {
		return nil
	}
	var plain, ignored int
	var firstPlain, firstIgnored string
	for _, t := range checkpoint.Tensors() {
		module, ok := quantizableModule(t)
		if !ok {
			continue
		}
		says, err := c.Quantization.Ignored(module)
		if err != nil {
			return []string{"ignored_layers is not compared with what is stored: " + err.Error()}
		}
		switch stored := t.Dtype == safetensors.F8E4M3; {
		case !says && !stored:
			if plain++; plain == 1 {
				firstPlain = t.Name
			}
		case says && stored:
			if ignored++; ignored == 1 {
				firstIgnored = t.Name
			}
		}
	}
	var notes []string
	if plain > 0 {
		notes = append(notes, fmt.Sprintf("%d weights are stored unquantized though the config does not list them in ignored_layers, %s first: read as stored", plain, firstPlain))
	}
	if ignored > 0 {
		notes = append(notes, fmt.Sprintf("%d weights are stored quantized though the config lists them in ignored_layers, %s first: read as stored", ignored, firstIgnored))
	}
	return notes
}
