package moe

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// TestRanksSumToTheWhole: experts dealt to ranks, evenly or not, and to more ranks than
// there are experts; columns cut to widths that no tile has; both.
func TestRanksSumToTheWhole(t *testing.T) {
	bounds := map[string]float64{"reference": 1e-6, "host": 1e-5, "host in parts": 1e-5, "checked host": 1e-5}
	for name, open := range devices {
		t.Run(name, func(t *testing.T) {
			d := open()
			t.Cleanup(func() {
				_, live := hiptest.InUse(d)
				require.Zero(t, live, "allocations left")
				require.NoError(t, d.Close())
			})
			testRanks(t, d, bounds[name], []int{1, 5, 67}, weights.MXFP8, weights.BF16, weights.F32)
		})
	}
}

func TestRanksSumToTheWholeOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) {
		testRanks(t, hip.Check(d), 1e-5, []int{1, 5}, weights.MXFP8, weights.BF16, weights.F32)
		testRanks(t, hip.Check(d), 1e-5, []int{40}, weights.MXFP8)
	})
}

func testRanks(t *testing.T, d hip.Device, bound float64, rows []int, formats ...weights.Format) {
	c := Config{Hidden: 64, Intermediate: 48, SharedIntermediate: 52, Experts: 5, TopK: 2, Scale: 2, Alpha: 1.702, Limit: 7, Beta: 1}
	rng := rand.New(rand.NewPCG(16, 16))
	m := randomMixture(rng, c, formats...)
	for _, n := range rows {
		x, residual := randomValues(rng, n*c.Hidden), randomValues(rng, n*c.Hidden)
		whole := m.forward(t, d, x, residual)
		for _, ranks := range []struct{ experts, columns int }{{2, 1}, {3, 1}, {4, 1}, {6, 1}, {1, 2}, {1, 4}, {2, 2}, {3, 4}} {
			t.Run(fmt.Sprintf("%d × %d ranks, %d rows of %v", ranks.experts, ranks.columns, n, formats[0]), func(t *testing.T) {
				requireClose(t, m.forwardRanks(t, d, ranks.experts, ranks.columns, x, residual), whole, bound)
			})
		}
	}
}

// forwardRanks is the sum of what ranks compute, among whom experts are dealt and their
// columns cut. The first to hold a part of the shared expert's columns adds it, and the
// first of all the residual.
func (m *mixture) forwardRanks(t *testing.T, d hip.Device, experts, columns int, x, residual []float32) (sum outcome) {
	t.Helper()
	for e := range experts {
		for c := range columns {
			r := m.rank(
				span(m.config.Experts, e, experts), span(m.config.Intermediate, c, columns), span(m.config.SharedIntermediate, c, columns), e == 0,
			)
			first := e == 0 && c == 0
			o := r.forwardRank(t, d, x, residual, first)
			if first {
				sum = o
				continue
			}
			require.Equal(t, sum.ids, o.ids, "every rank picks the same")
			require.Equal(t, sum.weights, o.weights)
			require.Equal(t, sum.scores, o.scores)
			add(sum.hidden, o.hidden)
			add(sum.routed, o.routed)
			add(sum.moeOut, o.moeOut)
			if o.shared != nil {
				add(sum.shared, o.shared)
			}
		}
	}
	return sum
}

func add(sum, values []float32) {
	for i, v := range values {
		sum[i] += v
	}
}

// span is the part of n that the given rank of several has; the first have one more.
func span(n, rank, ranks int) [2]int {
	each, more := n/ranks, n%ranks
	first := rank*each + min(rank, more)
	if rank < more {
		each++
	}
	return [2]int{first, first + each}
}

// rank is the part of m with these experts, these columns of each, and these of the shared
// expert if it is there.
func (m *mixture) rank(experts, columns, sharedColumns [2]int, shared bool) *mixture {
	c := m.config
	hidden, width := [2]int{0, c.Hidden}, c.Intermediate
	r := &mixture{config: c, gate: m.gate, bias: m.bias, w13: &stored{cols: c.Hidden}, w2: &stored{cols: columns[1] - columns[0]}}
	r.config.FirstExpert, r.config.HeldExperts = experts[0], experts[1]-experts[0]
	r.config.Intermediate, r.config.SharedIntermediate = columns[1]-columns[0], 0
	for e := experts[0]; e < experts[1]; e++ {
		for half := 2 * e; half < 2*e+2; half++ {
			m.w13.cut(r.w13, [2]int{half*width + columns[0], half*width + columns[1]}, hidden)
		}
		m.w2.cut(r.w2, [2]int{e * c.Hidden, (e + 1) * c.Hidden}, columns)
	}
	if shared {
		r.config.SharedIntermediate = sharedColumns[1] - sharedColumns[0]
		r.gateUp, r.down = &stored{cols: c.Hidden}, &stored{cols: r.config.SharedIntermediate}
		for half := range 2 {
			at := half * c.SharedIntermediate
			m.gateUp.cut(r.gateUp, [2]int{at + sharedColumns[0], at + sharedColumns[1]}, hidden)
		}
		m.down.cut(r.down, hidden, sharedColumns)
	}
	return r
}

// cut adds rows and columns of s to another matrix, stored as they are in s unless their
// scales would be cut, too.
func (s *stored) cut(to *stored, rows, cols [2]int) {
	first := 0 // row of the part
	for _, p := range s.parts {
		start, end := max(rows[0], first), min(rows[1], first+p.rows)
		each, perRow := len(p.data)/p.rows, tiles(s.cols, 32)
		size := each / s.cols
		switch {
		case start >= end:
		case scalesOf(p.format, 32) > 0 && cols[0]%32 != 0:
			var values [][]float32
			for _, row := range s.values[start:end] {
				values = append(values, row[cols[0]:cols[1]])
			}
			to.add(weights.F32, end-start, exact(values...).parts[0].data, nil)
		default:
			var data, scale []byte
			for at := start - first; at < end-first; at++ {
				data = append(data, p.data[at*each+cols[0]*size:at*each+cols[1]*size]...)
				if scalesOf(p.format, 32) > 0 {
					scale = append(scale, p.scale[at*perRow+cols[0]/32:at*perRow+tiles(cols[1], 32)]...)
				}
			}
			to.add(p.format, end-start, data, scale)
		}
		first += p.rows
	}
}

// experts uploads what the config asks for.
func (m *mixture) experts(t *testing.T, d hip.Device) *Experts {
	matrices := map[string]*stored{nameGate: m.gate, nameW13: m.w13, nameW2: m.w2, nameGateUp: m.gateUp, nameDown: m.down}
	return NewExperts(m.config, func(name string) *weights.Matrix { return matrices[name].upload(t, d) }, upload(t, d, m.bias))
}

// forwardRank runs a rank's part in a workspace that is full of NaN, without a shared
// expert if there is none, and without a residual unless it adds it.
func (m *mixture) forwardRank(t *testing.T, d hip.Device, x, residual []float32, addsResidual bool) outcome {
	t.Helper()
	c, rows := m.config, len(x)/m.config.Hidden
	e := m.experts(t, d)
	var ws Workspace
	wider := c
	wider.SharedIntermediate = max(c.SharedIntermediate, 1) // so that there is a shared_out to leave alone
	require.NoError(t, ws.Reserve(d, &wider, rows, true))
	poison(t, d, ws.shared.Ptr(), rows*c.Hidden)
	if c.held() > 0 {
		poison(t, d, ws.order.Ptr(), rows*c.TopK)
		poison(t, d, ws.active.Ptr(), min(c.held(), rows*c.TopK))
		poison(t, d, ws.intermediate.Ptr(), rows*c.TopK*c.Intermediate)
		poison(t, d, ws.expertOut.Ptr(), rows*c.TopK*c.Hidden)
	}
	hidden, pr := alloc(t, d, len(x)), hip.Ptr(0)
	if addsResidual {
		pr = upload(t, d, residual)
	}
	require.NoError(t, e.Forward(d, &ws, hidden, pr, upload(t, d, x), rows))
	o := outcome{
		hidden: read[float32](t, d, hidden, len(x)),
		scores: read[float32](t, d, ws.Stage("router_scores"), rows*c.Experts), weights: read[float32](t, d, ws.Stage("expert_weights"), rows*c.TopK),
		routed: read[float32](t, d, ws.Stage("moe_routed_out"), len(x)), moeOut: read[float32](t, d, ws.Stage("moe_out"), len(x)),
		ids: read[int32](t, d, ws.Stage("expert_ids"), rows*c.TopK),
	}
	if c.SharedIntermediate > 0 {
		o.shared = read[float32](t, d, ws.Stage("shared_out"), len(x))
	} else {
		require.Zero(t, ws.Stage("shared_out"))
		require.Equal(t, o.routed, o.moeOut, "nothing else")
	}
	if !addsResidual {
		require.Equal(t, o.moeOut, o.hidden, "nothing else")
	}
	for row := range rows {
		picked := false
		for _, id := range o.ids[row*c.TopK : (row+1)*c.TopK] {
			picked = picked || int(id) >= c.FirstExpert && int(id) < c.FirstExpert+c.held()
		}
		if !picked {
			require.Equal(t, make([]float32, c.Hidden), o.routed[row*c.Hidden:(row+1)*c.Hidden], "row %d picked none that is held", row)
		}
	}
	require.NoError(t, ws.Free(d))
	return o
}

// poison fills n values of 4 bytes with NaN. Read as an index it is out of range too.
func poison(t *testing.T, d hip.Device, p hip.Ptr, n int) {
	t.Helper()
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(math.NaN())
	}
	require.NoError(t, hip.WriteOf(d, p, values))
}

// TestCombineHeld: a pick that is not held counts for nothing, even if what its row and its
// weight hold is not a number; without a shared expert and a residual nothing is added.
func TestCombineHeld(t *testing.T) { onEach(t, testCombineHeld) }

func TestCombineHeldOnGPUs(t *testing.T) {
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { testCombineHeld(t, hip.Check(d)) })
}

func testCombineHeld(t *testing.T, d hip.Device) {
	const cols, nan = combineTile + 3, 1 << 20
	ids := []int32{4, 2, 3, 0, 1, 5} // two rows
	w := []float32{nan, 2, 3, nan, nan, nan}
	y := make([]float32, len(ids)*cols)
	for pair := range ids {
		for c := range cols {
			y[pair*cols+c] = w[pair] + float32(c)
		}
	}
	for pair, v := range w {
		if v == nan {
			w[pair] = float32(math.NaN())
			for c := range cols {
				y[pair*cols+c] = float32(math.NaN())
			}
		}
	}
	a := combineArgs{
		Hidden: alloc(t, d, 2*cols), Routed: alloc(t, d, 2*cols), Total: alloc(t, d, 2*cols),
		Y: upload(t, d, y), Weights: upload(t, d, w), IDs: upload(t, d, ids), First: 2, Held: 2, Rows: 2, TopK: 3, Cols: cols,
	}
	want := make([]float32, 2*cols)
	for c := range cols {
		want[c] = 2*(2+float32(c)) + 3*(3+float32(c))
	}
	require.NoError(t, launchCombine(d, &a))
	for _, out := range []hip.Ptr{a.Routed, a.Total, a.Hidden} {
		require.Equal(t, want, read[float32](t, d, out, 2*cols))
	}
	one, two := make([]float32, 2*cols), make([]float32, 2*cols)
	for i := range one {
		one[i], two[i] = 1, 2
	}
	a.Shared, a.Residual = upload(t, d, one), upload(t, d, two)
	require.NoError(t, launchCombine(d, &a))
	require.Equal(t, want, read[float32](t, d, a.Routed, 2*cols))
	add(want, one)
	require.Equal(t, want, read[float32](t, d, a.Total, 2*cols))
	add(want, two)
	require.Equal(t, want, read[float32](t, d, a.Hidden, 2*cols))
}

// TestNewExpertsOfRank: a rank asks for what it holds.
func TestNewExpertsOfRank(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"whole", func(*Config) {}, []string{nameGate, nameW13, nameW2, nameGateUp, nameDown}},
		{"an expert", func(c *Config) { c.FirstExpert, c.HeldExperts = 1, 1 }, []string{nameGate, nameW13, nameW2, nameGateUp, nameDown}},
		{"no expert", func(c *Config) { c.FirstExpert = 2 }, []string{nameGate, nameGateUp, nameDown}},
		{"no shared expert", func(c *Config) { c.SharedIntermediate = 0 }, []string{nameGate, nameW13, nameW2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := validConfig()
			c.change(&config)
			var asked []string
			NewExperts(config, func(name string) *weights.Matrix { asked = append(asked, name); return nil }, 0)
			require.Equal(t, c.want, asked)
		})
	}
}

// launchCounter counts the launches of a device.
type launchCounter struct {
	hip.Device
	launches int
}

func (d *launchCounter) Launch(k *hip.Kernel, g hip.Grid, args unsafe.Pointer) error {
	d.launches++
	return d.Device.Launch(k, g, args)
}

// TestRankLaunches: a rank launches what one rank that holds all does, and less if there is
// nothing to do.
func TestRankLaunches(t *testing.T) {
	m := randomMixture(rand.New(rand.NewPCG(17, 17)), validConfig(), weights.F32)
	all := [2]int{0, m.config.Intermediate}
	shared := [2]int{0, m.config.SharedIntermediate}
	for _, c := range []struct {
		name    string
		experts [2]int
		shared  bool
		want    int
	}{
		{"all", [2]int{0, 3}, true, 8},
		{"an expert", [2]int{1, 2}, true, 8},
		{"an expert, no shared one", [2]int{1, 2}, false, 6},
		{"none", [2]int{3, 3}, true, 5},
		{"none at all", [2]int{3, 3}, false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &launchCounter{Device: hip.NewReference()}
			e := m.rank(c.experts, all, shared, c.shared).experts(t, d)
			x := alloc(t, d, 2*m.config.Hidden)
			var ws Workspace
			require.NoError(t, e.Forward(d, &ws, x, 0, x, 2))
			require.Equal(t, c.want, d.launches)
			require.NoError(t, ws.Free(d))
		})
	}
}
