package weights

import (
	"errors"
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

// NewPlan matches every parameter to its tensors. It reads no weights. The
// error is an [*AuditError] with everything that is wrong.
func NewPlan(c *Checkpoint, params []Param, opts PlanOptions) (*Plan, error) {
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

// Report returns what the plan will load.
func (p *Plan) Report() *Report { return &p.report }

// audit collects sources and problems.
type audit struct {
	inventory *inventory
	opts      PlanOptions
	sources   [][]origin
	layers    map[int]bool // MTP layers with at least one tensor
	prefix    string       // bundledPrefix, once seen
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
		a.prefix = bundledPrefix
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

// settle checks every part once all tensors are known.
func (a *audit) settle() {
	absent := make(map[int]bool)
	for i := range a.inventory.params {
		p := &a.inventory.params[i]
		if p.Layer >= 0 && !a.layers[p.Layer] {
			if !absent[p.Layer] {
				absent[p.Layer] = true
				a.problem(fmt.Sprintf("%smodel.mtp.layers.%d.", a.prefix, p.Layer), "", ErrMissingLayer, "",
					fmt.Sprintf("Failed to load MTP layer %d weights from checkpoint.", p.Layer))
			}
			continue
		}
		for j := range p.Parts {
			a.check(p, &p.Parts[j], &a.sources[i][j])
		}
	}
}

// check decides a part's format and says what does not fit.
func (a *audit) check(p *Param, part *Part, s *origin) {
	switch {
	case s.weight == nil && s.scale != nil:
		a.problem(s.scale.Name, p.Name, ErrStrayScale, "", "a weight beside it")
		return
	case s.weight == nil:
		if !p.Optional {
			a.problem(a.prefix+part.Tensor, p.Name, ErrMissing, "", "")
		}
		return
	}
	format, wantScale, err := a.formatOf(p, s)
	if err != nil {
		a.problem(s.weight.Name, p.Name, err, describe(s), wantScale)
		return
	}
	s.format = format
	if got, want := s.weight.Shape, wantShape(p, part); !fits(got, want) {
		a.problem(s.weight.Name, p.Name, ErrWrongShape, fmt.Sprint(got), fmt.Sprint(want[0]))
		return
	}
	if format.Quantized() {
		r, c := format.ScaleShape(part.Rows, part.Cols)
		if !fits(s.scale.Shape, [][]int{{r, c}}) {
			a.problem(s.scale.Name, p.Name, ErrWrongShape, fmt.Sprint(s.scale.Shape), fmt.Sprint([]int{r, c}))
		}
		block := formats[format].blockCols
		if k := part.KeepCols; k.First%block != 0 || k.End%block != 0 && k.End != part.Cols {
			a.problem(s.weight.Name, p.Name, ErrShard, fmt.Sprintf("columns %d to %d", k.First, k.End),
				fmt.Sprintf("multiples of the scale block, %d", block))
		}
	}
}

// formatOf finds the row of the format table for a weight and its scales.
func (a *audit) formatOf(p *Param, s *origin) (f Format, want string, err error) {
	dtype := s.weight.Dtype
	for f = 1; f < endFormat; f++ {
		row := &formats[f]
		switch {
		case row.weight != dtype || p.Vector && f.Quantized():
			continue
		case !f.Quantized():
			if s.scale != nil {
				return 0, "no scales beside " + dtype.String(), ErrStrayScale
			}
			return f, "", nil
		case s.scale == nil:
			return 0, "", ErrMissingScale
		case a.opts.BlockCols != 0 && (a.opts.BlockRows != row.blockRows || a.opts.BlockCols != row.blockCols):
			continue
		}
		for _, scale := range row.scales {
			if scale == s.scale.Dtype {
				return f, "", nil
			}
		}
	}
	return 0, wantDtypes(p.Vector, s, a.opts), ErrWrongDtype
}

func wantDtypes(vector bool, s *origin, opts PlanOptions) string {
	switch {
	case vector:
		return "F32, F16 or BF16"
	case s.weight.Dtype != DtypeF8E4M3:
		return "F32, F16, BF16 or F8_E4M3"
	case opts.BlockCols == formats[MXFP8].blockCols:
		return "U8 or F8_E8M0 scales"
	case opts.BlockCols != 0:
		return "F32 or BF16 scales"
	}
	return "U8, F8_E8M0, F32 or BF16 scales"
}

func describe(s *origin) string {
	if s.scale == nil {
		return s.weight.Dtype.String()
	}
	return fmt.Sprintf("%v with %v scales", s.weight.Dtype, s.scale.Dtype)
}

// wantShape returns the shapes that a part may have, the usual one first.
func wantShape(p *Param, part *Part) [][]int {
	if !p.Vector {
		return [][]int{{part.Rows, part.Cols}}
	}
	if part.Rows == 0 {
		return [][]int{{}, {1}}
	}
	return [][]int{{part.Rows}}
}

func fits(got []int, want [][]int) bool {
	for _, w := range want {
		equal := len(got) == len(w)
		for i := 0; equal && i < len(w); i++ {
			equal = got[i] == w[i]
		}
		if equal {
			return true
		}
	}
	return false
}

// Problems returns the problems inside err, of an audit or of the files below
// it, one by one: what a listing shows.
func Problems(err error) []error {
	var audit *AuditError
	if errors.As(err, &audit) {
		return audit.Unwrap()
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, Problems(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
