package mtp

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Inspect reads the config and the headers in dir and reports what Load would
// take, or the problems that Load would report, without a device. It reads no weights but
// with Options.CheckWeights. Options that say which parameters are wanted are heeded.
func Inspect(dir string, opts Options) (*Config, *weights.Report, error) {
	if err := checkFolder(dir); err != nil {
		return nil, nil, err
	}
	config, report, err := InspectFS(os.DirFS(dir), opts)
	return config, report, inFolder(dir, err)
}

// InspectFS is [Inspect] from a file system. It returns the config also with an error, if
// it could read it.
func InspectFS(fsys fs.FS, opts Options) (*Config, *weights.Report, error) {
	checkpoint, config, plan, err := inspect(context.Background(), fsys, opts)
	if err != nil {
		return config, nil, err
	}
	report := plan.Report()
	report.Notes = append(report.Notes, config.quantization.quantizationNotes(checkpoint)...)
	report.Notes = append(report.Notes, config.modelOptNotes(fsys, checkpoint)...)
	if opts.CheckWeights {
		notes, err := plan.CheckWeights(context.Background(), opts.Progress)
		report.Notes = append(report.Notes, notes...)
		if err != nil {
			return config, nil, errors.Join(err, checkpoint.Close())
		}
	}
	return config, report, checkpoint.Close()
}

// inspect returns an open checkpoint and its plan, or with an error none. The config is
// that of the modules that are loaded.
func inspect(ctx context.Context, fsys fs.FS, opts Options) (*safetensors.Folder, *Config, *weights.Plan, error) {
	if opts.NoMap {
		fsys = unmapped{fsys}
	}
	config, configErr := ReadConfig(fsys)
	checkpoint, err := weights.OpenCheckpoint(fsys)
	if err = errors.Join(configErr, err); err != nil {
		if checkpoint != nil {
			err = errors.Join(err, checkpoint.Close())
		}
		return nil, config, nil, err
	}
	modules := modulesIn(checkpoint)
	config, note := config.of(modules, opts.Modules)
	plan, err := config.plan(ctx, checkpoint, modules, opts)
	if err != nil {
		config.explain(err, fsys, checkpoint, modules)
		return nil, config, nil, errors.Join(err, checkpoint.Close())
	}
	report := plan.Report()
	if note != "" {
		report.Notes = append(report.Notes, note)
	}
	report.Notes = append(report.Notes, config.quantization.notes()...)
	return checkpoint, config, plan, nil
}

func (c *Config) plan(ctx context.Context, checkpoint *safetensors.Folder, modules moduleTensors, opts Options) (*weights.Plan, error) {
	if err := c.checkOptions(opts); err != nil {
		return nil, err
	}
	errs := []error{c.checkModules(modules, opts.Modules), c.checkTied(ctx, checkpoint, opts), c.checkKVScales(checkpoint, opts)}
	if err := c.checkExperts(modules, len(checkpoint.Tensors())); err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	p := opts.parallel()
	plan, err := c.planShare(checkpoint, modules, opts, p)
	if err != nil && opts.Group != nil && !p.tensor.whole() {
		for _, p.block = range []int{16, 32, 128} { // of NVFP4, MXFP4 and MXFP8, and FP8
			if uneven := c.planBlocks(checkpoint, modules, opts, p); uneven != nil {
				plan, err, c.shareBlock = uneven, nil, p.block
				break
			}
		}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	c.noteTied(checkpoint, plan.Report(), opts)
	return plan, nil
}

// planBlocks is planShare if the shares of all ranks fit, so that all decide alike, and
// otherwise nil.
func (c *Config) planBlocks(checkpoint *safetensors.Folder, modules moduleTensors, opts Options, p parallel) (own *weights.Plan) {
	for rank := range p.tensor.Size {
		other := p
		other.tensor.Rank = rank
		plan, err := c.planShare(checkpoint, modules, opts, other)
		if err != nil {
			return nil
		}
		if rank == p.tensor.Rank {
			own = plan
		}
	}
	return own
}

// planShare matches the parameters of a share to the tensors.
func (c *Config) planShare(checkpoint *safetensors.Folder, modules moduleTensors, opts Options, p parallel) (*weights.Plan, error) {
	params, err := c.parameters(p, func(module int) bool { return modules[module] > 0 })
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
	return weights.NewPlan(checkpoint, wanted)
}

// checkFolder refuses a path that is not a folder: the errors of files in it would not say
// so.
func checkFolder(dir string) error {
	if dir == "" {
		return refuse("dir", strconv.Quote(dir), "a checkpoint folder", nil)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return statError{err}
	case !info.IsDir():
		return refuse("dir", strconv.Quote(dir), "the folder that holds this file and config.json", nil)
	}
	return nil
}

// inFolder adds the folder to an error that says where in it.
func inFolder(dir string, err error) error {
	if err == nil {
		return nil
	}
	return &folderError{dir, err}
}

// folderError says in which folder something is wrong.
type folderError struct {
	dir string
	err error
}

func (e *folderError) Error() string {
	return "mtp: " + safetensors.Printable(e.dir) + ": " + strings.TrimPrefix(e.err.Error(), "mtp: ")
}

func (e *folderError) Unwrap() error { return e.err }

// statError is the error of a folder that cannot be looked at.
type statError struct{ err error }

func (e statError) Error() string {
	if p, ok := errors.AsType[*fs.PathError](e.err); ok {
		return "mtp: " + p.Op + " " + safetensors.Printable(p.Path) + ": " + p.Err.Error() + ", want a checkpoint folder"
	}
	return "mtp: " + safetensors.Printable(e.err.Error())
}

func (e statError) Unwrap() error { return e.err }
