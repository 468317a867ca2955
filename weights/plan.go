package weights

import (
	"fmt"
	"strings"
)

const (
	// bundledPrefix stands before every text tensor of a bundled checkpoint.
	bundledPrefix = "language_model."
	// headPrefix is the head's own: a tensor under it must be taken.
	headPrefix = "model.mtp."

	weightSuffix = "weight"
	scaleSuffix  = "weight_scale"
)

// Needed tells whether a tensor of that name matters to an MTP head, for
// [OpenCheckpoint].
func Needed(tensor string) bool {
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
// was checked completely; moving the bytes cannot find anything wrong with them.
// Its methods may be called from several goroutines at once.
type Plan struct {
	params  []Param
	sources [][]origin // by parameter, by part
	report  Report
}

// origin is where a part comes from.
type origin struct {
	weight, scale *Tensor // both nil: an optional part that is absent
	format        Format
}

// PlanOptions are what a plan needs to know beside the parameters.
type PlanOptions struct {
	// BlockRows and BlockCols are weight_block_size of the config. Scales that
	// do not fit it are a problem. 0, 0: the config says nothing.
	BlockRows, BlockCols int
}

// allow tells whether the blocks of a quantized format are those of the config.
func (o PlanOptions) allow(f Format) bool {
	return o == PlanOptions{} || o == PlanOptions{formats[f].blockRows, formats[f].blockCols}
}

// NewPlan matches every parameter to its tensors. It reads no weights. params
// belong to the plan from then on. The error is an [*AuditError] with everything
// that is wrong.
func NewPlan(c *Checkpoint, params []Param, opts PlanOptions) (*Plan, error) {
	if err := auditError(checkParams(params)); err != nil {
		return nil, err
	}
	a := newAudit(params, opts)
	for _, t := range c.Tensors() {
		a.take(t)
	}
	a.settle()
	if err := auditError(a.problems); err != nil {
		return nil, err
	}
	p := &Plan{params: params, sources: a.sources}
	p.report = newReport(p, a.ignored, c.Unopened())
	return p, nil
}

// Report returns what the plan will load. It belongs to the plan; a caller that
// adds notes does so before it shares the plan.
func (p *Plan) Report() *Report { return &p.report }

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

func (a *audit) problem(tensor, param string, err error, got, want string) {
	a.problems = append(a.problems, &Problem{Tensor: tensor, Parameter: param, Err: err, Got: got, Want: want})
}

// take gives a tensor to the part it belongs to.
func (a *audit) take(t *Tensor) {
	mapped, ours := MapName(t.Name)
	if !ours {
		if ownTensor(t.Name) {
			a.problem(t.Name, "", ErrUnexpected, "", "")
		} else {
			a.ignored = append(a.ignored, t.Name)
		}
		return
	}
	o, scale, found := a.inventory.find(mapped)
	if !found {
		if ownTensor(t.Name) || strings.Contains(t.Name, "mtp.layers") {
			a.problem(t.Name, "", ErrUnexpected, "", "")
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
		a.problem(t.Name, a.inventory.params[o.param].Name, ErrLoadedTwice, "also "+(*slot).Name, "")
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
				a.problem(a.absent(fmt.Sprintf("model.mtp.layers.%d.", p.Layer)), "", ErrMissingLayer, "",
					fmt.Sprintf("Failed to load MTP layer %d weights from checkpoint.", p.Layer))
			}
			continue
		}
		for j := range p.Parts {
			a.check(p, &p.Parts[j], &a.sources[i][j])
		}
	}
}
