package weights

import (
	"fmt"
	"io/fs"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

const (
	// bundledPrefix stands before every text tensor of a bundled checkpoint.
	bundledPrefix = "language_model."
	// headPrefix is the head's own: a tensor under it must be taken.
	headPrefix = "model.mtp."

	weightSuffix = "weight"
	scaleSuffix  = "weight_scale"
)

// OpenCheckpoint opens the shards of a checkpoint that hold the MTP head, bundled with
// its target or standalone: see [safetensors.OpenFolder]. Shards that hold nothing of
// the head are not opened and may be absent.
func OpenCheckpoint(fsys fs.FS) (*safetensors.Folder, error) {
	return safetensors.OpenFolder(fsys, needed)
}

// needed reports whether a tensor of that name matters to an MTP head.
func needed(tensor string) bool {
	_, ok := MapName(tensor)
	return ok || ownTensor(tensor)
}

func ownTensor(name string) bool {
	return strings.HasPrefix(strings.TrimPrefix(name, bundledPrefix), headPrefix)
}

// weightOfScale returns the name of the weight that a scale belongs to; any
// other name as it is.
func weightOfScale(mapped string) (weight string, scale bool) {
	base, scale := strings.CutSuffix(mapped, scaleSuffix)
	if !scale {
		return mapped, false
	}
	return base + weightSuffix, true
}

// Plan says for every parameter which bytes of which tensors it is made of. It
// is checked completely: moving the bytes finds nothing wrong with them.
// Its methods may be called from several goroutines at once.
type Plan struct {
	params  []Param
	sources [][]origin // by parameter, by part
	report  Report
}

// origin is where a part comes from.
type origin struct {
	weight, scale *safetensors.Tensor // both nil: an optional part that is absent
	format        Format
}

// PlanOptions are what a plan needs to know beside the parameters.
type PlanOptions struct {
	// Block is weight_block_size of the config, rows and columns. Scales that do not
	// fit it are a problem. Zero: the config says nothing.
	Block [2]int
}

// allow reports whether the blocks of a quantized format are those of the config.
func (o PlanOptions) allow(f Format) bool {
	return o.Block == [2]int{} || o.Block == [2]int{formats[f].blockRows, formats[f].blockCols}
}

// NewPlan matches every parameter to its tensors. It reads no weights. params
// belong to the plan from then on. The error holds a [*Problem] for everything that is
// wrong with the checkpoint: see [Problems]. Parameters that no checkpoint could
// satisfy are a [*hip.InputError] each.
func NewPlan(c *safetensors.Folder, params []Param, opts PlanOptions) (*Plan, error) {
	if err := checkParams(params); err != nil {
		return nil, err
	}
	a := newAudit(params, opts)
	for _, t := range c.Tensors() {
		a.take(t)
	}
	a.settle()
	if err := asError(a.problems); err != nil {
		return nil, err
	}
	p := &Plan{params: params, sources: a.sources}
	p.report = newReport(p, append(a.ignored, unopened(c)...))
	return p, nil
}

// unopened returns the tensors that the index names in files that were left closed.
func unopened(c *safetensors.Folder) (tensors []string) {
	for tensor := range c.Index() {
		if _, opened := c.Tensor(tensor); !opened {
			tensors = append(tensors, tensor)
		}
	}
	return tensors
}

// Report returns what the plan will load. It belongs to the plan; a caller that
// adds notes does so before it shares the plan.
func (p *Plan) Report() *Report { return &p.report }

// Format returns the format that a parameter is stored in: 0 where there is none of that
// name, or where this rank's parts have several.
func (p *Plan) Format(param string) Format {
	f := Format(0)
	for i := range p.params {
		if p.params[i].Name != param {
			continue
		}
		for j, s := range p.sources[i] {
			switch {
			case s.weight == nil || p.params[i].Parts[j].KeepRows.Len() == 0:
			case f != 0 && f != s.format:
				return 0
			default:
				f = s.format
			}
		}
	}
	return f
}

// audit collects sources and problems.
type audit struct {
	inventory *inventory
	opts      PlanOptions
	sources   [][]origin
	layers    map[int]bool // MTP layers with at least one tensor
	bundled   int          // tensors with bundledPrefix, less those without
	ignored   []string
	problems  []*Problem
}

func newAudit(params []Param, opts PlanOptions) *audit {
	a := &audit{inventory: newInventory(params), opts: opts, layers: make(map[int]bool)}
	a.sources = make([][]origin, len(params))
	for i := range params {
		a.sources[i] = make([]origin, len(params[i].Parts))
	}
	return a
}

func (a *audit) problem(tensor, param string, rule ruleText, got, want string) {
	a.problems = append(a.problems, &Problem{Tensor: tensor, Parameter: param, Rule: rule, Got: got, Want: want})
}

// take gives a tensor to the part it belongs to.
func (a *audit) take(t *safetensors.Tensor) {
	mapped, ours := MapName(t.Name)
	if !ours {
		if ownTensor(t.Name) {
			a.problem(t.Name, "", ruleUnexpected, "", "")
		} else {
			a.ignored = append(a.ignored, t.Name)
		}
		return
	}
	o, scale, found := a.inventory.find(mapped)
	if !found {
		if ownTensor(t.Name) || strings.Contains(t.Name, "mtp.layers") {
			a.problem(t.Name, "", ruleUnexpected, "", "")
		} else {
			a.ignored = append(a.ignored, t.Name) // shared, and supplied by somebody else
		}
		return
	}
	if strings.HasPrefix(t.Name, bundledPrefix) {
		a.bundled++
	} else {
		a.bundled--
	}
	if layer, ok := MTPLayer(t.Name); ok {
		a.layers[layer] = true
	}
	slot := &a.sources[o.param][o.part].weight
	if scale {
		slot = &a.sources[o.param][o.part].scale
	}
	if *slot != nil {
		a.problem(t.Name, a.inventory.params[o.param].Name, ruleLoadedTwice, "also "+(*slot).Name, "")
		return
	}
	*slot = t
}

// absent is what a tensor would be called in this checkpoint.
func (a *audit) absent(tensor string) string {
	if a.bundled > 0 {
		return bundledPrefix + tensor
	}
	return tensor
}

// settle checks every part once all tensors are known.
func (a *audit) settle() {
	absent := make(map[int]bool)
	for i := range a.inventory.params {
		p := &a.inventory.params[i]
		if p.Layer >= 0 && !a.layers[p.Layer] {
			if !absent[p.Layer] {
				absent[p.Layer] = true
				a.problems = append(a.problems, &Problem{
					Tensor: a.absent(fmt.Sprintf("model.mtp.layers.%d.", p.Layer)), Rule: ruleMissingLayer,
					Note: fmt.Sprintf("Failed to load MTP layer %d weights from checkpoint.", p.Layer),
				})
			}
			continue
		}
		for j := range p.Parts {
			a.check(p, &p.Parts[j], &a.sources[i][j])
		}
	}
}
