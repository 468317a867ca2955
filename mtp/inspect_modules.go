package mtp

import (
	"errors"
	"fmt"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// moduleTensors counts the tensors of a checkpoint by their MTP module.
type moduleTensors map[int]int

// modulesIn counts the tensors of the opened files.
func modulesIn(checkpoint *safetensors.Folder) moduleTensors {
	modules := make(moduleTensors)
	for _, t := range checkpoint.Tensors() {
		if _, ours := weights.MapName(t.Name); !ours {
			continue
		}
		if module, ok := weights.MTPLayer(t.Name); ok {
			modules[module]++
		}
	}
	return modules
}

// first returns how many modules there are from module 0 on, without a gap.
func (m moduleTensors) first() int {
	n := 0
	for m[n] > 0 {
		n++
	}
	return n
}

// previewModules is num_mtp_modules of the config that was released first. Checkpoints that
// copy it hold as many modules as num_nextn_predict_layers beside it says, or none.
const previewModules = 7

// of returns the config of the modules that are loaded, and a note on their number. The
// number is asked, or else num_mtp_modules. The config of a target, or one copied from the
// preview, may promise more modules than the files hold: if they hold as many as
// num_nextn_predict_layers says, these are loaded. The config of a standalone head
// describes its own files, and its num_mtp_modules counts.
func (c *Config) of(modules moduleTensors, asked int) (config *Config, note string) {
	n, promised := c.NumMTPModules, c.NumMTPModules
	switch there := modules.first(); {
	case asked > 0:
		if n = asked; n < len(modules) {
			note = fmt.Sprintf("the first %d of %d MTP modules are loaded, as asked for", n, len(modules))
		}
	case there == c.nextn && there == len(modules) && there < promised && (c.Bundled || promised == previewModules):
		n = there
		note = fmt.Sprintf("num_mtp_modules is %d, and the files hold the %s of num_nextn_predict_layers: loaded %d", promised, count(n, "MTP module"), n)
	}
	if n == promised {
		return c, note
	}
	loaded := *c
	loaded.NumMTPModules = n
	return &loaded, note
}

// checkModules refuses modules that the files hold beyond those that the config gives,
// unless a number was asked for.
func (c *Config) checkModules(modules moduleTensors, asked int) error {
	more, tensors, next := 0, 0, -1
	for module, n := range modules {
		if module >= c.NumMTPModules {
			more, tensors = more+1, tensors+n
			if next < 0 || module < next {
				next = module
			}
		}
	}
	if asked > 0 || more == 0 {
		return nil
	}
	note := ""
	if c.nextn > 0 {
		note = fmt.Sprintf("num_nextn_predict_layers is %d", c.nextn)
	}
	p := &weights.Problem{
		Tensor: tensorName(next, ""), Rule: errMoreModules,
		Got:  fmt.Sprintf("%s of %s", count(tensors, "tensor"), count(more, "more module")),
		Want: fmt.Sprintf("num_mtp_modules %d; %s", c.NumMTPModules, chooseModules(max(c.NumMTPModules, modules.first()))), Note: note,
	}
	return p
}

var errMoreModules = errors.New("more MTP modules than the config gives")

// chooseModules says how to load the first n modules whatever the config says.
func chooseModules(n int) string {
	return fmt.Sprintf("Options.Modules %d (-modules %d) loads the first %d", n, n, n)
}

// checkExperts refuses a config that asks for far more tensors than there are, before
// memory is taken for each of them.
func (c *Config) checkExperts(modules moduleTensors, tensors int) error {
	const slack, atLeast = 20, 5000
	asked, there := 0, 0
	for module := range c.NumMTPModules {
		if modules[module] > 0 {
			asked += 3 * c.MoE.Experts
			there++
		}
	}
	if asked <= slack*tensors+atLeast {
		return nil
	}
	var errs []error
	for module := range c.NumMTPModules {
		n := modules[module]
		if n == 0 {
			errs = append(errs, &weights.Problem{
				Tensor: tensorName(module, ""), Rule: weights.ErrMissing,
				Note: fmt.Sprintf("Failed to load MTP layer %d weights from checkpoint.", module),
			})
		} else {
			errs = append(errs, &weights.Problem{
				Tensor: tensorName(module, "transformer_layer.block_sparse_moe.experts."), Rule: weights.ErrMissing,
				Got:  fmt.Sprintf("%s of the module", count(n, "tensor")),
				Want: fmt.Sprintf("%d of experts alone, as num_local_experts is %d", 3*c.MoE.Experts, c.MoE.Experts),
			})
		}
	}
	return errors.Join(errs...)
}

// count writes a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
