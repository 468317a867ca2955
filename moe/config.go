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
type Config struct {
	Hidden             int // hidden_size
	Intermediate       int // intermediate_size, of one routed expert
	SharedIntermediate int // shared_intermediate_size
	Experts            int // num_local_experts; 0: a dense MLP
	TopK               int // num_experts_per_tok, 1 to Experts

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
	size("SharedIntermediate", c.SharedIntermediate, math.MaxInt32/2)
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
	} else {
		size("Experts", c.Experts, math.MaxInt32-1)
		size("TopK", c.TopK, max(c.Experts, 1))
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
	if !(c.Limit > 0) {
		refuse("Limit", c.Limit, "above 0")
	}
	return errors.Join(errs...)
}

// dense reports whether the shared expert is all there is.
func (c *Config) dense() bool { return c.Experts == 0 }

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
	w13    *weights.Matrix // [Experts · 2·Intermediate, Hidden]     per expert: w1 (gate) rows, then w3 (up) rows
	w2     *weights.Matrix // [Experts · Hidden, Intermediate]       per expert: w2 (down) rows
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
//	experts.w13_weight                   [Experts · 2·Intermediate, Hidden]   per expert: w1 (gate) rows, then w3 (up) rows
//	experts.w2_weight                    [Experts · Hidden, Intermediate]     per expert: w2 (down) rows
//	shared_experts.gate_up_proj.weight   [2·SharedIntermediate, Hidden]       gate rows, then up rows
//	shared_experts.down_proj.weight      [Hidden, SharedIntermediate]
//
// A dense MLP asks for the shared expert's two alone, whatever the layer calls them, and
// has no bias. What does not fit is an error of [Experts.Forward], which looks at all of it.
func NewExperts(c Config, matrix func(name string) *weights.Matrix, bias hip.Ptr) *Experts {
	if c.dense() {
		return &Experts{gateUp: matrix(nameGateUp), down: matrix(nameDown), bias: bias, config: c}
	}
	return &Experts{
		gate: matrix(nameGate), w13: matrix(nameW13), w2: matrix(nameW2),
		gateUp: matrix(nameGateUp), down: matrix(nameDown), bias: bias, config: c,
	}
}

// check returns all that is wrong with the config, or else with the weights.
func (e *Experts) check(op string) error {
	if err := e.config.check(op); err != nil {
		return err // no shapes to compare with
	}
	var errs []error
	for _, weight := range []struct {
		name       string
		matrix     *weights.Matrix
		rows, cols int64
	}{
		{nameGate, e.gate, int64(e.config.Experts), int64(e.config.Hidden)},
		{nameW13, e.w13, int64(e.config.Experts) * 2 * int64(e.config.Intermediate), int64(e.config.Hidden)},
		{nameW2, e.w2, int64(e.config.Experts) * int64(e.config.Hidden), int64(e.config.Intermediate)},
		{nameGateUp, e.gateUp, 2 * int64(e.config.SharedIntermediate), int64(e.config.Hidden)},
		{nameDown, e.down, int64(e.config.Hidden), int64(e.config.SharedIntermediate)},
	} {
		if e.config.dense() && weight.name != nameGateUp && weight.name != nameDown {
			continue
		}
		if got := shapeOf(weight.matrix); got != (shape{weight.rows, weight.cols}) {
			errs = append(errs, &hip.InputError{Op: op, Field: weight.name, Got: got, Want: shape{weight.rows, weight.cols}.String()})
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
