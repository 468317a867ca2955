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

// sharedTensors are the matrices that the head shares with its target.
var sharedTensors = [...]string{"model.embed_tokens.weight", "lm_head.weight"}

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

// ownTensor reports whether a name is under one of the head's own: its layers, or a
// matrix that it shares with its target.
func ownTensor(name string) bool {
	name = strings.TrimPrefix(name, bundledPrefix)
	for _, shared := range sharedTensors {
		if strings.HasPrefix(name, strings.TrimSuffix(shared, weightSuffix)) {
			return true
		}
	}
	return strings.HasPrefix(name, headPrefix)
}

// role is what a tensor is to the matrix that it belongs to.
type role int

const (
	roleWeight  role = iota
	roleScale        // of blocks
	roleDivisor      // of all of the matrix
	roleFactor       // of all of the matrix
	roleUnused       // of activations that are quantized beforehand, which this library does not do
)

// roles are the names of what lies beside a weight, or stands for it, after "_inv" is cut
// off: those of compressed-tensors, Quark and ModelOpt.
var roles = [...]struct {
	suffix string
	role   role
}{
	{scaleSuffix, roleScale},
	{"weight_packed", roleWeight},
	{"weight_global_scale", roleDivisor},
	{"weight_scale_2", roleFactor},
	{"input_global_scale", roleUnused},
	{"input_scale", roleUnused},
}

// roleOf returns the name of the weight that a tensor belongs to, and what it is to it; any
// other name is that of a weight.
func roleOf(mapped string) (weight string, r role) {
	for _, s := range &roles {
		if base, found := strings.CutSuffix(mapped, s.suffix); found && (base == "" || strings.HasSuffix(base, ".")) {
			return base + weightSuffix, s.role
		}
	}
	return mapped, roleWeight
}

// Plan says for every parameter which bytes of which tensors make it up. NewPlan has
// checked all of it: moving the bytes finds no further problem of a header. Several
// goroutines may call its methods at once.
type Plan struct {
	params  []Param
	sources [][]origin // by parameter, by part
	report  Report
}

// origin is where a part comes from.
type origin struct {
	weight, scale  *safetensors.Tensor // both nil: an optional part that is absent
	global, unused *safetensors.Tensor // of 4-bit formats
	divides        bool                // global does
	format         Format
	of             global // what the global scale says
}

// slot returns where a tensor of that role belongs.
func (s *origin) slot(r role) **safetensors.Tensor {
	switch r {
	case roleScale:
		return &s.scale
	case roleDivisor, roleFactor:
		return &s.global
	case roleUnused:
		return &s.unused
	}
	return &s.weight
}

// NewPlan matches every parameter to its tensors. It reads no weights but the scales
// of whole matrices, of NVFP4. The plan owns params
// from then on. The error joins a [*Problem] for everything that is wrong with the
// checkpoint, the first 100 of a rule: see [Problems]. A parameter that no checkpoint could
// satisfy is a [*hip.InputError].
//
// A tensor of the head that no parameter takes is a problem: one under the head's own
// prefix, or any mapped name with "mtp.layers" in it. A tensor of an MTP layer without any
// parameter, or of a shared matrix that is not asked for, is ignored.
//
// Parameters may be those of other layers, such as the target's: then each part's Tensor is
// found by that name, with the scales "_scale_inv" or "_scale" beside it, and a tensor that
// shares the first two words of its name with one of them, "model.layers." for example, and
// that no parameter takes is a problem too. [safetensors.OpenFolder] opens their shards.
func NewPlan(c *safetensors.Folder, params []Param) (*Plan, error) {
	if err := checkParams(params); err != nil {
		return nil, err
	}
	a := newAudit(params)
	for _, t := range c.Tensors() {
		a.take(t)
	}
	a.settle()
	if err := a.err(); err != nil {
		return nil, err
	}
	a.ignored.addUnopened(c)
	p := &Plan{params: params, sources: a.sources}
	p.report = newReport(p, a.ignored)
	p.report.Notes = append(p.report.Notes, c.Notes()...)
	return p, nil
}

// Report returns what the plan will load. It belongs to the plan; add notes only before you
// share the plan.
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
			case s.weight == nil || p.params[i].Parts[j].keepRows().Len() == 0:
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
	sources   [][]origin
	layers    map[int]bool // MTP layers with at least one tensor
	wanted    map[int]bool // MTP layers with at least one parameter
	bundled   int          // tensors with bundledPrefix, less those without
	ignored   prefixes
	problems  []*Problem
	count     map[error]int // of problems, also of those left out
}

func newAudit(params []Param) *audit {
	a := &audit{
		inventory: newInventory(params), layers: make(map[int]bool), wanted: make(map[int]bool),
		count: make(map[error]int), ignored: make(prefixes),
	}
	a.sources = make([][]origin, len(params))
	for i := range params {
		a.sources[i] = make([]origin, len(params[i].Parts))
		a.wanted[params[i].layer()] = true
	}
	return a
}

func (a *audit) problem(tensor, param string, rule ruleText, got, want string) {
	a.add(&Problem{Tensor: tensor, param: param, Rule: rule, Got: got, Want: want})
}

// maxProblems is how many problems of a rule are reported one by one.
const maxProblems = 100

func (a *audit) add(p *Problem) {
	if a.count[p.Rule]++; a.count[p.Rule] <= maxProblems {
		a.problems = append(a.problems, p)
	}
}

// take gives a tensor to the part it belongs to.
func (a *audit) take(t *safetensors.Tensor) {
	mapped, ours := MapName(t.Name)
	o, role, found := a.inventory.find(t.Name, mapped)
	if !found {
		if a.owns(t.Name, ours) {
			a.problem(t.Name, "", ruleUnexpected, "", "")
		} else {
			a.ignored.add(t.Name)
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
	source := &a.sources[o.param][o.part]
	slot := source.slot(role)
	if *slot != nil {
		a.problem(t.Name, a.inventory.params[o.param].Name, ruleLoadedTwice, "also "+safetensors.Printable((*slot).Name), "")
		return
	}
	*slot = t
	source.divides = source.divides || role == roleDivisor
}

// owns reports whether a tensor that no parameter takes belongs to the head. mapped is set
// if [MapName] takes it for one.
func (a *audit) owns(name string, mapped bool) bool {
	if layer, ok := MTPLayer(name); ok && !a.wanted[layer] {
		return false
	}
	bare := strings.TrimPrefix(name, bundledPrefix)
	for _, shared := range sharedTensors {
		if strings.HasPrefix(bare, strings.TrimSuffix(shared, weightSuffix)) {
			return a.inventory.names[shared]
		}
	}
	return ownTensor(name) || mapped || a.inventory.scopes[scope(bare)]
}

// absent returns the name that a missing tensor would have in this checkpoint.
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
		if layer := p.layer(); layer >= 0 && !a.layers[layer] {
			if !absent[layer] {
				absent[layer] = true
				a.add(&Problem{
					Tensor: a.absent(fmt.Sprintf("model.mtp.layers.%d.", layer)), Rule: ruleMissingLayer,
					Note: fmt.Sprintf("Failed to load MTP layer %d weights from checkpoint.", layer),
				})
			}
			continue
		}
		for j := range p.Parts {
			a.check(p, &p.Parts[j], &a.sources[i][j])
		}
	}
}
