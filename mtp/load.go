package mtp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// Load opens the checkpoint folder dir and loads its MTP head, bundled with the target or
// standalone. It reads config.json and the weights: in the shards that hold the head by
// model.safetensors.index.json, or, without an index, in every *.safetensors file of the
// folder (see [weights.OpenCheckpoint]). No two of the files may hold the same tensor.
//
// Load first reads the headers and matches every parameter to its tensors. It moves bytes
// only if everything fits. What does not fit is a [*InputError] for a key of config.json, a
// [*safetensors.FormatError] or a [*weights.Problem], all of them together after the name
// of the folder: [weights.Problems] lists them. An option that does not fit is an
// [*InputError]. Load skips nothing and leaves nothing uninitialized. Kernels are compiled
// before any bytes move, so that one that does not compile fails here and not in the first
// draft. On any error, including the end of ctx, everything taken is given back.
//
// Load refuses anything that would make a head silently draft nonsense. A parameter that is
// not wholly covered, a part given twice, a shape, dtype or scale that does not fit, a
// tensor under the head's own prefix that nothing takes, a file that breaks the safetensors
// format, an index that is not true of its shards, a config that is incomplete,
// contradictory or asks for a branch of the model family that is not computed here: each is
// an error, before a byte is moved. All problems of one kind are reported together: config and files first,
// then the options, and if these are sound the tensors. [Inspect] gives the same answer
// without loading. The target's own tensors are not the head's; [weights.Report] counts
// them. If the config ties lm_head to embed_tokens, an lm_head in the files must have the
// same bytes, or it is refused.
//
// A tensor is read as it is stored: quantization_config, of whatever method, only leads to
// notes. [Inspect] compares with the files what a config of mxfp8, fp8, compressed-tensors,
// Quark or ModelOpt says of the weights, and hf_quant_config.json where the config says
// nothing. Headers do not show whether values were ever written; [Options.CheckWeights] reads
// them.
//
// The checkpoint's files must not change while the head is open: a CPU uses them in place.
// If a file is cut short nevertheless, calls that read what is gone return an error that
// wraps [hip.ErrAccess], and the process goes on; the rest of the last page that is there
// reads as zeros. Bytes that are overwritten are used as they are. With Options.NoMap Load
// copies the weights, and nothing that happens to the files matters afterwards.
func Load(ctx context.Context, dir string, opts Options) (*Head, error) {
	if err := checkFolder(dir); err != nil {
		opts.loadFailed(err)
		return nil, err
	}
	head, err := LoadFS(ctx, os.DirFS(dir), opts)
	return head, inFolder(dir, err)
}

// LoadFS is [Load] from a file system. It memory-maps files of the operating system, uses
// files in memory where they are, and reads others into the device's memory.
func LoadFS(ctx context.Context, fsys fs.FS, opts Options) (h *Head, err error) {
	start := time.Now()
	defer func() {
		if err != nil {
			opts.loadFailed(err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("mtp: %w", err)
	}
	checkpoint, config, plan, err := inspect(ctx, fsys, opts)
	if err != nil {
		return nil, err
	}
	h = &Head{config: config, options: opts, report: plan.Report(), device: opts.Device, checkpoint: checkpoint}
	taken, returned := h, false
	defer func() {
		if returned && err == nil {
			return
		}
		// Nobody else knows what the head took: once more if it could not be freed. Without
		// a return, a Progress panicked.
		failed := taken.release()
		if failed != nil {
			_ = taken.release()
		}
		h, err = nil, errors.Join(err, failed)
	}()
	err = h.load(ctx, plan, start)
	returned = true
	return h, err
}

// load moves the weights and makes what the head needs beside them.
func (h *Head) load(ctx context.Context, plan *weights.Plan, start time.Time) (err error) {
	config, opts := h.config, &h.options
	if h.device == nil {
		h.device, h.ownsDevice = hip.NewHost(), true
	}
	h.meter = newMeter(h.device)
	h.device = h.meter
	if err = hip.Compile(ctx, h.device, hip.Kernels()...); err != nil {
		return fmt.Errorf("mtp: load: %w", err)
	}
	progress, stored := opts.Progress, h.report.Bytes
	if requantized := config.requantizedBytes(plan, *opts); progress != nil && requantized > 0 {
		progress = func(done, _ int64) { opts.Progress(done, stored+requantized) }
	}
	h.loaded, err = plan.Load(ctx, h.device, opts.Populate, opts.CheckWeights, progress)
	if err != nil {
		return fmt.Errorf("mtp: %w", err)
	}
	if !h.loaded.InPlace() {
		checkpoint := h.checkpoint
		h.checkpoint = nil
		if err := checkpoint.Close(); err != nil {
			return err
		}
	}
	if err := h.build(); err != nil {
		return err
	}
	if h.ranks != nil {
		if err := h.meet(ctx); err != nil {
			return err
		}
	}
	if progress != nil {
		progress = func(done, total int64) { opts.Progress(stored+done, stored+total) }
	}
	if err := h.buildDraftLMHead(ctx, progress); err != nil {
		return fmt.Errorf("mtp: lm_head for drafting: %w", err)
	}
	h.loadedBytes = h.meter.bytes()
	if opts.Logger != nil {
		opts.Logger.InfoContext(ctx, "MTP head loaded", "modules", config.NumMTPModules, "parameters", h.report.Parameters,
			"bytes", h.report.Bytes, "device", h.device.Info().Name, "duration", time.Since(start))
		if m := h.draftHead.matrix; len(h.draftHead.made) > 0 {
			opts.Logger.InfoContext(ctx, "lm_head for drafting", "tokens", m.Rows, "format", m.Formats()[0].String(), "bytes", m.Bytes())
		}
		for _, note := range h.report.Notes {
			opts.Logger.WarnContext(ctx, note)
		}
	}
	return nil
}
