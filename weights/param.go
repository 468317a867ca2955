package weights

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// Param is a parameter of a model: what a plan has to find in a checkpoint. The columns
// that this rank holds are those of each part that it holds rows of.
type Param struct {
	Name     string // in the model, as the names of its tensors lead to it
	Optional bool   // may be absent
	Parts    []Part // in the order of their rows
}

// Part is a tensor of the checkpoint that a parameter is stacked from.
type Part struct {
	Tensor   string // its name, without the prefix "language_model."; of the head in all parts, or in none
	Shape    []int  // what it must have: [rows, columns]; [n] of a vector, [] of a scalar
	KeepRows [2]int // from which row to before which this rank holds it; none: it must exist
	KeepCols [2]int // the same of the columns of a matrix
}

// vector reports whether the parameter is one-dimensional (norms, biases) or a scalar,
// which is decoded to float32.
func (p *Param) vector() bool { return len(p.Parts[0].Shape) < 2 }

// layer returns the MTP layer of the parameter, or −1.
func (p *Param) layer() int {
	if layer, ok := MTPLayer(p.Parts[0].Tensor); ok {
		return layer
	}
	return -1
}

// cols returns the columns that this rank holds, of every part; 1 of a vector.
func (p *Param) cols() int {
	for i := range p.Parts {
		if p.Parts[i].keepRows().Len() > 0 {
			return p.Parts[i].keepCols().Len()
		}
	}
	return 0
}

// rows returns the rows of the tensor; 1 of a scalar.
func (p *Part) rows() int {
	if len(p.Shape) == 0 {
		return 1
	}
	return p.Shape[0]
}

// cols returns the columns of the tensor; 1 of a vector.
func (p *Part) cols() int {
	if len(p.Shape) < 2 {
		return 1
	}
	return p.Shape[1]
}

// keepRows is KeepRows.
func (p *Part) keepRows() interval { return p.KeepRows }

// keepCols is KeepCols, also of a vector.
func (p *Part) keepCols() interval {
	if len(p.Shape) < 2 {
		return interval{0, 1}
	}
	return p.KeepCols
}

// interval is the half-open interval from its first number to before its second.
type interval [2]int

// Len returns the number of elements.
func (r interval) Len() int { return r[1] - r[0] }

// within reports whether r is a part of [0, n), or empty in it.
func (r interval) within(n int) bool { return 0 <= r[0] && r[0] <= r[1] && r[1] <= n }

// checkParams reports the parameters that no checkpoint could satisfy, or whose
// shares would reach beyond their tensors.
func checkParams(params []Param) error {
	var errs []error
	names := make(map[string]bool, len(params))
	for i := range params {
		names[params[i].Name] = true
	}
	again := make(map[string]bool, len(params))
	parts := make(map[partKey]bool)
	for i := range params {
		p := &params[i]
		in := fmt.Sprintf("params[%d]", i)
		refuse := func(bad bool, field string, got any, want string) {
			if bad {
				errs = append(errs, &hip.InputError{Op: "weights: plan", Field: in + field, Got: got, Want: want + " (" + safetensors.Printable(p.Name) + ")"})
			}
		}
		refuse(again[p.Name], ".Name", safetensors.Printable(p.Name), "one parameter of a name")
		refuse(len(p.Parts) == 0, ".Parts", "empty", "at least one")
		again[p.Name] = true
		for j := range p.Parts {
			part := &p.Parts[j]
			in = fmt.Sprintf("params[%d].Parts[%d]", i, j)
			key, ok := keyOf(part.Tensor, names)
			_, head := MapName(part.Tensor)
			_, first := MapName(p.Parts[0].Tensor)
			refuse(!ok || head && key.param != p.Name || head != first, ".Tensor", safetensors.Printable(part.Tensor), "a name that leads to the parameter")
			refuse(ok && parts[key], ".Tensor", safetensors.Printable(part.Tensor)+" again", "each tensor once")
			parts[key] = true
			if len(part.Shape) > 2 || (len(part.Shape) < 2) != p.vector() {
				refuse(true, ".Shape", part.Shape, "the dimensions of a matrix, or of a vector as the first part")
				continue
			}
			rows, cols, keep := part.rows(), part.cols(), part.keepCols()
			refuse(rows < 1 || rows > math.MaxInt32, ".Shape", part.Shape, "1 to 2^31-1 rows")
			refuse(cols < 1 || cols > math.MaxInt32, ".Shape", part.Shape, "1 to 2^31-1 columns")
			refuse(!part.keepRows().within(rows), ".KeepRows", part.KeepRows, "a share of its rows")
			refuse(!keep.within(cols), ".KeepCols", part.KeepCols, "a share of its columns")
			refuse(part.keepRows().Len() != 0 && keep.Len() != p.cols(), ".KeepCols", part.KeepCols, "as many columns as the other parts")
			refuse(part.keepRows().Len() != 0 && keep.Len() == 0, ".KeepCols", part.KeepCols, "a share of columns for its rows")
		}
	}
	return errors.Join(errs...)
}

// partKey finds a part by what the rules of names give for its tensor.
type partKey struct {
	param  string
	id     string
	expert int
}

// keyOf returns the key of a part's tensor, a weight, by the rules of vLLM's load_weights,
// among the parameters of these names. A tensor that is not the head's is found by its name
// alone.
func keyOf(tensor string, names map[string]bool) (partKey, bool) {
	if mapped, ok := MapName(tensor); ok {
		return keyOfMapped(mapped, names)
	}
	return partKey{"", tensor, -1}, tensor != ""
}

// keyOfMapped takes a name that is through [MapName] already: stacked parameters come
// first, then experts, then names that are parameters themselves, perhaps after
// [RemapKVScale].
func keyOfMapped(mapped string, names map[string]bool) (partKey, bool) {
	if param, id, ok := stackedParam(mapped); ok && names[param] {
		return partKey{param, id, -1}, true
	}
	if param, expert, id, ok := expertParam(mapped); ok && names[param] {
		return partKey{param, id, expert}, true
	}
	name, ok := RemapKVScale(mapped, func(param string) bool { return names[param] })
	return partKey{name, "", -1}, ok && names[name]
}

// owner is the place of a part among the parameters.
type owner struct{ param, part int }

// inventory finds the part that a tensor belongs to.
type inventory struct {
	params []Param
	names  map[string]bool
	parts  map[partKey]owner
	scopes map[string]bool // of parts that are not the head's
}

// newInventory takes checked parameters.
func newInventory(params []Param) *inventory {
	v := &inventory{params: params, names: make(map[string]bool), parts: make(map[partKey]owner), scopes: make(map[string]bool)}
	for i := range params {
		v.names[params[i].Name] = true
	}
	for i := range params {
		for j, part := range params[i].Parts {
			if key, ok := keyOf(part.Tensor, v.names); ok {
				v.parts[key] = owner{i, j}
			}
			if _, head := MapName(part.Tensor); !head {
				v.scopes[scope(part.Tensor)] = true
			}
		}
	}
	return v
}

// find maps a tensor name to its part. mapped is its result of [MapName], "" where it is not
// the head's. The role is what the tensor is to the part.
func (v *inventory) find(name, mapped string) (o owner, r role, found bool) {
	if mapped == "" {
		name = strings.Replace(strings.TrimPrefix(name, bundledPrefix), scaleSuffix+"_inv", scaleSuffix, 1)
		name, r = roleOf(name)
		o, found = v.parts[partKey{"", name, -1}]
		return o, r, found
	}
	weight, r := roleOf(mapped)
	if key, ok := keyOfMapped(weight, v.names); ok {
		o, found = v.parts[key]
	}
	return o, r, found
}

// scope is what a parameter that is not the head's takes its tensor from: "model.layers."
// of "model.layers.0.mlp.down_proj.weight".
func scope(tensor string) string {
	parts := strings.SplitAfterN(tensor, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], "")
}
