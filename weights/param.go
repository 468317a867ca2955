package weights

import (
	"errors"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
)

// Param is a parameter of a model: what a plan has to find in a checkpoint.
type Param struct {
	Name     string // in the model, as MapName, Stacked and Expert give it
	Layer    int    // MTP layer, or −1
	Vector   bool   // one-dimensional (norms, biases) or a scalar; decoded to float32
	Optional bool   // may be absent
	Cols     int    // columns that this rank holds, of every part; 1 of a vector
	Parts    []Part // in the order of their rows
}

// Part is a tensor of the checkpoint that a parameter is stacked from.
type Part struct {
	Tensor     string // its name, without the prefix "language_model."
	ID         string // shard_id of [StackedParams] and [ExpertParams]: "q", "0", "w1"; "" if not stacked
	Expert     int    // of a routed expert, otherwise −1
	Rows, Cols int    // the shape it must have; Cols 1: a vector of Rows, 0 rows: a scalar
	KeepRows   Range  // what this rank holds of it; empty: nothing, but it must exist
	KeepCols   Range  // [0, 1) of a vector
}

// Range is the half-open interval [First, End).
type Range struct{ First, End int }

// Len returns the number of elements.
func (r Range) Len() int { return r.End - r.First }

// within reports whether r is a part of [0, n), or empty in it.
func (r Range) within(n int) bool { return 0 <= r.First && r.First <= r.End && r.End <= n }

// checkParams reports the parameters that no checkpoint could satisfy, or whose
// shares would reach beyond their tensors.
func checkParams(params []Param) error {
	var errs []error
	names := make(map[string]bool, len(params))
	parts := make(map[partKey]bool)
	for i := range params {
		p := &params[i]
		in := fmt.Sprintf("params[%d]", i)
		refuse := func(bad bool, field string, got any, want string) {
			if bad {
				errs = append(errs, &hip.InputError{Op: "weights: plan", Field: in + field, Got: got, Want: want + " (" + printable(p.Name) + ")"})
			}
		}
		refuse(names[p.Name], ".Name", printable(p.Name), "one parameter of a name")
		refuse(len(p.Parts) == 0, ".Parts", "empty", "at least one")
		names[p.Name] = true
		for j := range p.Parts {
			part := &p.Parts[j]
			in = fmt.Sprintf("params[%d].Parts[%d]", i, j)
			key := partKey{p.Name, part.ID, part.Expert}
			refuse(parts[key], ".ID", fmt.Sprintf("%q again", part.ID), "one part of an ID and expert")
			parts[key] = true
			rows := part.Rows
			if p.Vector && rows == 0 { // a scalar
				rows = 1
			}
			refuse(p.Vector && part.Cols != 1, ".Cols", part.Cols, "1 of a vector")
			refuse(rows < 1 || rows > math.MaxInt32, ".Rows", part.Rows, "1 to 2^31-1")
			refuse(part.Cols < 1 || part.Cols > math.MaxInt32, ".Cols", part.Cols, "1 to 2^31-1")
			refuse(!part.KeepRows.within(rows), ".KeepRows", part.KeepRows, "a share of its rows")
			refuse(!part.KeepCols.within(part.Cols), ".KeepCols", part.KeepCols, "a share of its columns")
			refuse(part.KeepRows.Len() != 0 && part.KeepCols.Len() != p.Cols, ".KeepCols", part.KeepCols, "as many columns as the parameter")
			refuse(part.KeepRows.Len() != 0 && part.KeepCols.Len() == 0, ".KeepCols", part.KeepCols, "a share of columns for its rows")
		}
	}
	return errors.Join(errs...)
}

// partKey finds a part by what [Stacked] and [Expert] give for a tensor name.
type partKey struct {
	param  string
	id     string
	expert int
}

// owner is the place of a part among the parameters.
type owner struct{ param, part int }

// inventory finds the part that a tensor belongs to.
type inventory struct {
	params []Param
	names  map[string]bool
	parts  map[partKey]owner
}

func newInventory(params []Param) *inventory {
	v := &inventory{params: params, names: make(map[string]bool), parts: make(map[partKey]owner)}
	for i := range params {
		v.names[params[i].Name] = true
		for j, part := range params[i].Parts {
			v.parts[partKey{params[i].Name, part.ID, part.Expert}] = owner{i, j}
		}
	}
	return v
}

// find maps a tensor name, already through [MapName], to its part by the rules
// of vLLM's load_weights: stacked parameters, then experts, then names that
// are parameters themselves, perhaps after [RemapKVScale]. scale reports whether
// the tensor holds the part's block scales.
func (v *inventory) find(mapped string) (o owner, scale, found bool) {
	weight, scale := weightOfScale(mapped)
	if param, id, ok := Stacked(weight); ok && v.names[param] {
		o, found = v.parts[partKey{param, id, -1}]
		return o, scale, found
	}
	if param, expert, id, ok := Expert(weight); ok && v.names[param] {
		o, found = v.parts[partKey{param, id, expert}]
		return o, scale, found
	}
	if name, ok := RemapKVScale(weight, func(param string) bool { return v.names[param] }); ok {
		o, found = v.parts[partKey{name, "", -1}]
	}
	return o, scale, found
}
