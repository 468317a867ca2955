package moe

import (
	"errors"
	"fmt"
	"math"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

// Config is the shape of a mixture of experts. Each field names its key of config.json.
// With Experts 0 it is that of a dense MLP, which is the shared expert alone, of width
// dense_intermediate_size; Intermediate, TopK and Scale are then 0.
//
// One rank of a parallel layer may hold some of the experts, some of the columns of each
// (Intermediate and SharedIntermediate are then this rank's), and no shared expert: see the
// package's documentation. FirstExpert and HeldExperts are not of config.json; both 0 stand
// for all experts. A rank with a FirstExpert above 0 and HeldExperts 0 holds none.
type Config struct {
	Hidden             int // hidden_size
	Intermediate       int // intermediate_size, of one routed expert; any width
	SharedIntermediate int // shared_intermediate_size; 0: no shared expert beside the routed ones
	Experts            int // num_local_experts, of all ranks; 0: a dense MLP
	TopK               int // num_experts_per_tok, 1 to Experts
	FirstExpert        int // the first expert held, 0 to Experts
	HeldExperts        int // how many are held, 0 to Experts − FirstExpert

	// Activations is how rows are rounded that MXFP8 weights multiply, and is not of
	// config.json. [hip.ActivationsMXFP8] rounds those of a Forward of at least 5 rows: for
	// the routed experts, and for the gate and up rows of the shared expert, if all weights
	// of the matrix are MXFP8.
	Activations hip.Activations

	Scale float64 // routed_scaling_factor
	Alpha float64 // swiglu_alpha
	Limit float64 // swiglu_limit, above 0; +Inf does not limit
	Beta  float64 // swiglu_beta
}

// check returns all fields that are out of range, for the call op.
func (c *Config) check(op string) error {
	var errs []error
	refuse := func(field string, got any, want string) {
		errs = append(errs, &hip.InputError{Op: op, Field: field, Got: got, Want: want})
	}
	size := func(field string, got, most int) {
		if got < 1 || got > most {
			refuse(field, got, fmt.Sprintf("1 to %d", most))
		}
	}
	size("Hidden", c.Hidden, math.MaxInt32)
	if !c.dense() {
		size("Intermediate", c.Intermediate, math.MaxInt32/2)
	}
	if c.dense() || c.SharedIntermediate != 0 {
		size("SharedIntermediate", c.SharedIntermediate, math.MaxInt32/2)
	}
	if c.dense() {
		const none = "0, since Experts is 0"
		if c.Intermediate != 0 {
			refuse("Intermediate", c.Intermediate, none)
		}
		if c.TopK != 0 {
			refuse("TopK", c.TopK, none)
		}
		if c.Scale != 0 {
			refuse("Scale", c.Scale, none)
		}
		if c.FirstExpert != 0 {
			refuse("FirstExpert", c.FirstExpert, none)
		}
		if c.HeldExperts != 0 {
			refuse("HeldExperts", c.HeldExperts, none)
		}
	} else {
		size("Experts", c.Experts, math.MaxInt32-1)
		size("TopK", c.TopK, max(c.Experts, 1))
		experts := max(c.Experts, 0)
		if c.FirstExpert < 0 || c.FirstExpert > experts {
			refuse("FirstExpert", c.FirstExpert, fmt.Sprintf("0 to %d", experts))
		} else if most := experts - c.FirstExpert; c.HeldExperts < 0 || c.HeldExperts > most {
			refuse("HeldExperts", c.HeldExperts, fmt.Sprintf("0 to %d", most))
		}
	}
	for _, number := range []struct {
		field string
		got   float64
	}{{"Scale", c.Scale}, {"Alpha", c.Alpha}, {"Beta", c.Beta}} {
		if c.dense() && number.field == "Scale" {
			continue
		}
		if math.IsNaN(number.got) || math.IsInf(number.got, 0) {
			refuse(number.field, number.got, "a finite number")
		}
	}
	if c.Activations != hip.ActivationsExact && c.Activations != hip.ActivationsMXFP8 {
		refuse("Activations", c.Activations, "ActivationsExact or ActivationsMXFP8")
	}
	if !(c.Limit > 0) {
		refuse("Limit", c.Limit, "above 0")
	}
	return errors.Join(errs...)
}

// dense reports whether the shared expert is all there is.
func (c *Config) dense() bool { return c.Experts == 0 }

// shared reports whether there is a shared expert.
func (c *Config) shared() bool { return c.dense() || c.SharedIntermediate > 0 }

// held returns how many experts the rank holds.
func (c *Config) held() int {
	if c.FirstExpert == 0 && c.HeldExperts == 0 {
		return c.Experts
	}
	return c.HeldExperts
}

// checkRows bounds rows so that an int32 can count pairs.
func (c *Config) checkRows(op string, rows int) error {
	if most := math.MaxInt32 / max(c.TopK, 1); rows < 0 || rows > most {
		return &hip.InputError{Op: op, Field: "rows", Got: rows, Want: fmt.Sprintf("0 to %d", most)}
	}
	return nil
}

// Experts holds the weights of a mixture of experts in device memory, as stored in the
// checkpoint, and its shape. It owns none of the memory. Forward only reads it, so several
// goroutines may use it.
type Experts struct {
	config Config
	gate   *weights.Matrix // [Experts, Hidden]
	w13    *weights.Matrix // [held · 2·Intermediate, Hidden]        per expert: w1 (gate) rows, then w3 (up) rows
	w2     *weights.Matrix // [held · Hidden, Intermediate]          per expert: w2 (down) rows
	gateUp *weights.Matrix // [2·SharedIntermediate, Hidden]         the shared expert's gate rows, then its up rows
	down   *weights.Matrix // [Hidden, SharedIntermediate]           the shared expert's down rows
	bias   hip.Ptr         // [Experts] float32
}

// The matrices, as a layer names them.
const (
	nameGate   = "gate.weight"
	nameW13    = "experts.w13_weight"
	nameW2     = "experts.w2_weight"
	nameGateUp = "shared_experts.gate_up_proj.weight"
	nameDown   = "shared_experts.down_proj.weight"
	nameBias   = "e_score_correction_bias"
)

// NewExperts returns the experts of a layer. matrix returns each of the layer's matrices by
// its name there, as [weights.Loaded.Matrix] does; bias is e_score_correction_bias,
// [Experts] float32.
//
//	gate.weight                          [Experts, Hidden]
//	experts.w13_weight                   [HeldExperts · 2·Intermediate, Hidden]   per expert: w1 (gate) rows, then w3 (up) rows
//	experts.w2_weight                    [HeldExperts · Hidden, Intermediate]     per expert: w2 (down) rows
//	shared_experts.gate_up_proj.weight   [2·SharedIntermediate, Hidden]       gate rows, then up rows
//	shared_experts.down_proj.weight      [Hidden, SharedIntermediate]
//
// Both of the experts are for all of them if the config names none, and their rows are
// those of the experts held, from FirstExpert on. A matrix of which c leaves nothing is not
// asked for: those of the experts if none is held, those of the shared expert if there is
// none, and for a dense MLP all but the shared expert's two, whatever the layer calls them.
// A dense MLP has no bias. What does not fit is an error of [Experts.Forward], which looks at
// all of it.
func NewExperts(c Config, matrix func(name string) *weights.Matrix, bias hip.Ptr) *Experts {
	e := &Experts{bias: bias, config: c}
	for _, w := range e.weights() {
		if w.asked {
			*w.matrix = matrix(w.name)
		}
	}
	return e
}

// weight is a matrix, and whether the config asks for it.
type weight struct {
	name   string
	asked  bool
	matrix **weights.Matrix
	shape  shape
}

func (e *Experts) weights() [5]weight {
	c := &e.config
	hidden, held, width, shared := int64(c.Hidden), int64(c.held()), int64(c.Intermediate), int64(c.SharedIntermediate)
	return [...]weight{
		{nameGate, !c.dense(), &e.gate, shape{int64(c.Experts), hidden}},
		{nameW13, held > 0, &e.w13, shape{held * 2 * width, hidden}},
		{nameW2, held > 0, &e.w2, shape{held * hidden, width}},
		{nameGateUp, c.shared(), &e.gateUp, shape{2 * shared, hidden}},
		{nameDown, c.shared(), &e.down, shape{hidden, shared}},
	}
}

// check returns all that is wrong with the config, or else with the weights.
func (e *Experts) check(op string) error {
	if err := e.config.check(op); err != nil {
		return err // no shapes to compare with
	}
	var errs []error
	for _, w := range e.weights() {
		if got := shapeOf(*w.matrix); w.asked && got != w.shape {
			errs = append(errs, &hip.InputError{Op: op, Field: w.name, Got: got, Want: w.shape.String()})
		}
	}
	switch {
	case e.config.dense() && e.bias != 0:
		errs = append(errs, &hip.InputError{Op: op, Field: nameBias, Got: "an address", Want: "none, since Experts is 0"})
	case !e.config.dense() && e.bias == 0:
		errs = append(errs, &hip.InputError{Op: op, Field: nameBias, Got: shape{}, Want: shape{1, int64(e.config.Experts)}.String()})
	}
	return errors.Join(errs...)
}

// shape is that of a matrix; zero for one that has no memory.
type shape struct{ rows, cols int64 }

func shapeOf(m *weights.Matrix) shape {
	if m == nil {
		return shape{}
	}
	if table, _ := m.Table(); table == 0 {
		return shape{}
	}
	return shape{int64(m.Rows), int64(m.Cols)}
}

func (s shape) String() string {
	if s == (shape{}) {
		return "missing"
	}
	return fmt.Sprintf("%d × %d", s.rows, s.cols)
}
