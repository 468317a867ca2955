package moe

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/weights"
)

func validConfig() Config {
	return Config{Hidden: 8, Intermediate: 4, SharedIntermediate: 6, Experts: 3, TopK: 2, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1}
}

func TestConfigCheck(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(c *Config)
		fields []string
	}{
		{"valid", func(*Config) {}, nil},
		{"no limit", func(c *Config) { c.Limit = math.Inf(1) }, nil},
		{"zero", func(c *Config) { *c = Config{} }, []string{"Hidden", "SharedIntermediate", "Limit"}},
		{"no shared expert", func(c *Config) { c.SharedIntermediate = 0 }, nil},
		{"a negative shared expert", func(c *Config) { c.SharedIntermediate = -1 }, []string{"SharedIntermediate"}},
		{"the first expert", func(c *Config) { c.HeldExperts = 1 }, nil},
		{"the last expert", func(c *Config) { c.FirstExpert, c.HeldExperts = 2, 1 }, nil},
		{"all experts, said so", func(c *Config) { c.HeldExperts = 3 }, nil},
		{"holds none", func(c *Config) { c.FirstExpert = 3 }, nil},
		{"begins after the last", func(c *Config) { c.FirstExpert = 4 }, []string{"FirstExpert"}},
		{"ends after the last", func(c *Config) { c.FirstExpert, c.HeldExperts = 2, 2 }, []string{"HeldExperts"}},
		{"sum beyond an int", func(c *Config) { c.FirstExpert, c.HeldExperts = 1, math.MaxInt }, []string{"HeldExperts"}},
		{"negative experts held", func(c *Config) { c.HeldExperts = -1 }, []string{"HeldExperts"}},
		{"negative first expert", func(c *Config) { c.FirstExpert = math.MinInt }, []string{"FirstExpert"}},
		{"dense holds experts", func(c *Config) {
			*c = denseConfig(8, 6)
			c.FirstExpert, c.HeldExperts = 1, 1
		}, []string{"FirstExpert", "HeldExperts"}},
		{"no expert but picks", func(c *Config) { c.Experts = 0 }, []string{"Intermediate", "TopK", "Scale"}},
		{"dense", func(c *Config) { c.Experts, c.Intermediate, c.TopK, c.Scale = 0, 0, 0, 0 }, nil},
		{"an expert without size", func(c *Config) { *c = Config{Experts: 1} }, []string{"Hidden", "Intermediate", "TopK", "Limit"}},
		{"negative sizes", func(c *Config) { c.Hidden, c.Experts = -1, -2 }, []string{"Hidden", "Experts", "TopK"}},
		{"more picks than experts", func(c *Config) { c.TopK = 4 }, []string{"TopK"}},
		{"sizes beyond int32", func(c *Config) { c.Hidden, c.Intermediate = math.MaxInt, math.MaxInt32 }, []string{"Hidden", "Intermediate"}},
		{"NaN", func(c *Config) { c.Scale, c.Alpha, c.Limit, c.Beta = math.NaN(), math.NaN(), math.NaN(), math.NaN() }, []string{"Scale", "Alpha", "Beta", "Limit"}},
		{"infinities", func(c *Config) { c.Scale, c.Alpha, c.Beta = math.Inf(1), math.Inf(-1), math.Inf(1) }, []string{"Scale", "Alpha", "Beta"}},
		{"limit of zero", func(c *Config) { c.Limit = 0 }, []string{"Limit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := validConfig()
			c.change(&config)
			err := config.check("moe: config")
			require.Equal(t, c.fields, problems(err))
			if c.fields != nil {
				require.ErrorIs(t, err, hip.ErrInput)
			}
		})
	}
}

// problems lists the fields of all the [hip.InputError]s that err joins.
func problems(err error) (fields []string) {
	if one, ok := err.(*hip.InputError); ok {
		return []string{one.Field}
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			fields = append(fields, problems(e)...)
		}
	}
	return fields
}

// noLaunches fails the launch of anything.
type noLaunches struct{ hip.Device }

var errLaunched = errors.New("launched")

func (noLaunches) Launch(*hip.Kernel, hip.Grid, unsafe.Pointer) error { return errLaunched }

func TestForwardRefusesBadWeights(t *testing.T) {
	d := noLaunches{hip.NewReference()}
	m := randomMixture(rand.New(rand.NewPCG(1, 1)), validConfig(), weights.F32)
	for _, c := range []struct {
		name    string
		change  func(e *Experts)
		weights []string
	}{
		{"nothing", func(e *Experts) { *e = Experts{config: e.config} }, []string{nameGate, nameW13, nameW2, nameGateUp, nameDown, nameBias}},
		{"no matrix", func(e *Experts) { e.w2 = nil }, []string{nameW2}},
		{"no bias", func(e *Experts) { e.bias = 0 }, []string{nameBias}},
		{"a matrix without memory", func(e *Experts) { e.gate = &weights.Matrix{Rows: 3, Cols: 8} }, []string{nameGate}},
		{"gate and up mixed up with down", func(e *Experts) { e.gateUp, e.down = e.down, e.gateUp }, []string{nameGateUp, nameDown}},
		{"another hidden size", func(e *Experts) { e.config.Hidden = 9 }, []string{nameGate, nameW13, nameW2, nameGateUp, nameDown}},
		{"another intermediate size", func(e *Experts) { e.config.Intermediate = 5 }, []string{nameW13, nameW2}},
		{"some experts of all", func(e *Experts) { e.config.HeldExperts = 2 }, []string{nameW13, nameW2}},
		{"another number of experts", func(e *Experts) { e.config.Experts = 4 }, []string{nameGate, nameW13, nameW2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := m.upload(t, d)
			c.change(e)
			x := alloc(t, d, 8)
			var ws Workspace
			err := e.Forward(d, &ws, x, x, x, 1)
			require.ErrorIs(t, err, hip.ErrInput)
			require.NotErrorIs(t, err, errLaunched)
			require.Equal(t, c.weights, problems(err))
			require.Equal(t, Workspace{}, ws, "nothing allocated")
		})
	}
	e := m.upload(t, d)
	e.config.Intermediate, e.gate = 5, nil
	require.EqualError(t, e.Forward(d, new(Workspace), 0, 0, 0, 1), `moe: forward: gate.weight is missing, want 3 × 8
moe: forward: experts.w13_weight is 24 × 8, want 30 × 8
moe: forward: experts.w2_weight is 24 × 4, want 24 × 5`)
}

func TestForwardRefusesBadInput(t *testing.T) {
	d := noLaunches{hip.NewReference()}
	e := randomMixture(rand.New(rand.NewPCG(1, 1)), validConfig(), weights.F32).upload(t, d)
	x := alloc(t, d, 8)
	for _, c := range []struct {
		name                string
		ws                  *Workspace
		hidden, residual, x hip.Ptr
		rows                int
		arguments           []string
	}{
		{"negative rows", new(Workspace), x, x, x, -1, []string{"rows"}},
		{"too many rows", new(Workspace), x, x, x, math.MaxInt32/2 + 1, []string{"rows"}},
		{"no memory", new(Workspace), 0, 0, 0, 1, []string{"hidden", "x"}},
		{"no x", new(Workspace), x, x, 0, 1, []string{"x"}},
		{"no workspace", nil, x, x, x, 1, []string{"ws"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := e.Forward(d, c.ws, c.hidden, c.residual, c.x, c.rows)
			require.ErrorIs(t, err, hip.ErrInput)
			require.NotErrorIs(t, err, errLaunched)
			require.Equal(t, c.arguments, problems(err))
		})
	}
	require.NoError(t, e.Forward(d, new(Workspace), 0, 0, 0, 0), "no rows, nothing to do")
	require.ErrorIs(t, e.Forward(d, new(Workspace), x, x, x, 1), errLaunched)
}
