package weights

// Param is a parameter of a model: what a plan has to find in a checkpoint.
type Param struct {
	Name     string // in the model, as MapName, Stacked and Expert give it
	Layer    int    // MTP layer, or −1
	Vector   bool   // one-dimensional (norms, biases) or a scalar; decoded to float32
	Optional bool   // may be absent
	Cols     int    // columns of a matrix, over all parts the same; 1 of a vector
	Parts    []Part // in the order of their rows
}

// Part is a tensor of the checkpoint that a parameter is stacked from.
type Part struct {
	Tensor     string // its name, without the prefix "language_model."
	ID         string // shard_id of the seed's tables: "q", "0", "w1"; "" if not stacked
	Expert     int    // of a routed expert, otherwise −1
	Rows, Cols int    // the shape it must have; Cols 1: a vector of Rows, 0 rows: a scalar
	KeepRows   Range  // what this rank holds of it
	KeepCols   Range
}

// partKey finds a part by what the seed's mapping gives for a tensor name.
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
// of the seed's load_weights: stacked parameters, then experts, then names that
// are parameters themselves, perhaps after [RemapKVScale]. scale tells whether
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
