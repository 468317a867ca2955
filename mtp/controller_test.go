package mtp

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// workload is a simulated engine: what a draft step and a pass of the target take, in units
// of a pass over one row, and how often a draft is accepted once those before it were.
type workload struct {
	rate   func(step int) float64
	draft  float64 // a step of one sequence
	join   float64 // each further sequence of a step
	row    float64 // each further row of a target pass
	commit float64 // a Draft without drafts
	noise  float64 // relative, of each time

	pace func(step int) float64 // how much longer all takes; nil: no longer
}

// engine runs requests in one batch and counts.
type engine struct {
	*workload
	random          *rand.Rand
	seconds, tokens float64
}

// took returns what is measured. All that is compared is at the same pace, which does not
// count.
func (e *engine) took(n int, expected float64) time.Duration {
	seconds := expected * math.Exp(e.noise*e.random.NormFloat64())
	if e.seconds += seconds; e.pace != nil {
		seconds *= e.pace(n)
	}
	return time.Duration(seconds * float64(time.Millisecond))
}

// step runs one step of all sequences with these lengths, and reports it to c, if not nil.
func (e *engine) step(n int, lengths []int, c *Controller, requests []*Acceptance) {
	draft, rows := 0.0, 0
	for _, sequences := range drafting(lengths) {
		draft += e.draft + e.join*float64(sequences-1)
	}
	if draft == 0 {
		draft = e.commit
	}
	for _, k := range lengths {
		rows += k + 1
	}
	draftTook := e.took(n, draft)
	targetTook := e.took(n, 1+e.row*float64(rows-1))
	for i, k := range lengths {
		accepted, rate := 0, e.rate(n)
		for accepted < k && e.random.Float64() < rate {
			accepted++
		}
		e.tokens += (1 - math.Pow(rate, float64(k+1))) / (1 - rate) // what is expected of the length, without the luck
		if c != nil {
			c.ReportAccepted(requests[i], k, accepted)
		}
	}
	if c != nil {
		c.ReportDraft(lengths, draftTook)
		c.ReportTarget(rows, targetTook)
	}
}

const mostSimulated = 16

// learned returns the tokens per second of a controller.
func learned(w *workload, sequences, steps int, seed uint64) float64 {
	e := &engine{workload: w, random: rand.New(rand.NewPCG(seed, 7))}
	c := NewController(mostSimulated)
	requests := make([]*Acceptance, sequences)
	for i := range requests {
		requests[i] = new(Acceptance)
	}
	for n := range steps {
		e.step(n, c.Lengths(requests...), c, requests)
	}
	return e.tokens / e.seconds
}

// bestFixed returns the best fixed length and its tokens per second, which are exact where
// rates are constant: rate(k) = sequences · (1 + a + … + a^k) / time(k).
func bestFixed(w *workload, sequences, steps int) (length int, rate float64) {
	for k := range mostSimulated + 1 {
		tokens, seconds := 0.0, 0.0
		for n := range steps {
			a := w.rate(n)
			for j := range k + 1 {
				tokens += float64(sequences) * math.Pow(a, float64(j))
			}
			draft := float64(k) * (w.draft + w.join*float64(sequences-1))
			if k == 0 {
				draft = w.commit
			}
			seconds += draft + 1 + w.row*float64(sequences*(k+1)-1)
		}
		if tokens/seconds > rate {
			length, rate = k, tokens/seconds
		}
	}
	return length, rate
}

// TestControllerConstant: whatever drafts cost and how often they are accepted, the
// controller comes within 3 % of the best fixed length, its learning included.
func TestControllerConstant(t *testing.T) {
	for _, sequences := range []int{1, 8} {
		steps := map[int]int{1: 2000, 8: 800}[sequences]
		worst := 1.0
		for _, a := range []float64{0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95} {
			line := fmt.Sprintf("%d sequences, acceptance %.2f:", sequences, a)
			for _, draft := range []float64{0.01, 0.03, 0.1, 0.2, 0.3} {
				for _, row := range []float64{0, 0.03, 0.5} {
					w := &workload{rate: func(int) float64 { return a }, draft: draft, join: draft / 50, row: row, commit: draft / 4, noise: 0.05}
					k, fixed := bestFixed(w, sequences, 1)
					got := learned(w, sequences, steps, 1) / fixed
					line += fmt.Sprintf("  %d %.3f", k, got)
					worst = min(worst, got)
					require.Greater(t, got, 0.97, "acceptance %g, draft %g, row %g, %d sequences: best length %d", a, draft, row, sequences, k)
				}
			}
			t.Log(line)
		}
		t.Logf("worst: %.3f", worst)
	}
}

// TestControllerPace: a machine that is up to half as slow again in turn costs little, also where
// drafts are worth nearly what they cost.
func TestControllerPace(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 7))
	slower := make([]float64, 4000)
	for n, current := 0, 1.0; n < len(slower); n++ {
		if random.IntN(60) == 0 {
			current = 1 + random.Float64()/2
		}
		slower[n] = current
	}
	for _, a := range []float64{0.5, 0.8, 0.9} {
		for _, row := range []float64{0.03, 0.2, 0.5, 0.8} {
			w := &workload{rate: func(int) float64 { return a }, draft: 0.2, join: 0.1, row: row, commit: 0.1, noise: 0.1, pace: func(n int) float64 { return slower[n] }}
			k, fixed := bestFixed(w, 8, 1)
			got := learned(w, 8, len(slower), 3) / fixed
			t.Logf("acceptance %.2f, row %.2f: best length %d, %.3f of it", a, row, k, got)
			require.Greater(t, got, 0.95)
		}
	}
}

// TestControllerChanges: where rates change in the middle of requests, the controller beats
// every fixed length.
func TestControllerChanges(t *testing.T) {
	for _, sequences := range []int{1, 4} {
		const steps = 1200
		for _, period := range []int{100, 400} {
			for _, draft := range []float64{0.03, 0.1, 0.3} {
				w := &workload{draft: draft, join: draft / 50, row: 0.01, commit: draft / 4, noise: 0.05, rate: func(step int) float64 {
					return []float64{0.95, 0.2, 0.75, 0.05}[step/period%4]
				}}
				k, fixed := bestFixed(w, sequences, steps)
				got := learned(w, sequences, steps, 2) / fixed
				t.Logf("%d sequences, a change every %d steps, draft %.2f: best fixed length %d, controller %.3f of it", sequences, period, draft, k, got)
				require.Greater(t, got, 1.0)
			}
		}
	}
}

// TestControllerTellsRequestsApart: of two requests in one batch, the one whose drafts are
// accepted gets long chains and the other none, apart from those that try again.
func TestControllerTellsRequestsApart(t *testing.T) {
	c := NewController(8)
	good, bad := new(Acceptance), new(Acceptance)
	drafted := [2]int{}
	for n := range 400 {
		lengths := c.Lengths(good, bad)
		require.Len(t, lengths, 2)
		c.ReportDraft(lengths, time.Duration(max(lengths[0], lengths[1]))*100*time.Microsecond)
		c.ReportTarget(2+lengths[0]+lengths[1], time.Millisecond+time.Duration(lengths[0]+lengths[1])*50*time.Microsecond)
		c.ReportAccepted(good, lengths[0], lengths[0])
		c.ReportAccepted(bad, lengths[1], 0)
		if n >= 100 {
			drafted[0] += lengths[0]
			drafted[1] += lengths[1]
		}
	}
	require.Greater(t, drafted[0], 7*300)
	require.Less(t, drafted[1], 300/8)
}

// TestControllerGivesUpAndReturns: where the target gains nothing, one draft in some tens of
// steps is left; once drafts are accepted, chains are long again within tens of steps.
func TestControllerGivesUpAndReturns(t *testing.T) {
	c, request := NewController(8), new(Acceptance)
	step := func(accept bool) int {
		k := c.Lengths(request)[0]
		c.ReportDraft([]int{k}, time.Duration(k)*300*time.Microsecond)
		c.ReportTarget(k+1, time.Millisecond)
		accepted := 0
		if accept {
			accepted = k
		}
		c.ReportAccepted(request, k, accepted)
		return k
	}
	drafted := 0
	for n := range 400 {
		if k := step(false); n >= 100 {
			drafted += k
		}
	}
	require.LessOrEqual(t, drafted, 15)
	require.Positive(t, drafted)
	last := 0
	for range 120 {
		last = step(true)
	}
	require.Equal(t, 8, last)
}

// TestControllerWithoutRoom: a controller of no drafts, a batch of no requests, and reports
// that cannot be.
func TestControllerWithoutRoom(t *testing.T) {
	require.Equal(t, []int{0, 0}, NewController(-1).Lengths(new(Acceptance), new(Acceptance)))
	c := NewController(1000)
	require.Empty(t, c.Lengths())
	request := new(Acceptance)
	c.ReportAccepted(request, 2, 9)
	c.ReportAccepted(request, -1, -1)
	c.ReportTarget(0, time.Second)
	c.ReportTarget(-5, -time.Second)
	c.ReportDraft(nil, time.Second)
	c.ReportDraft([]int{-3}, time.Second)
	for range 40 {
		k := c.Lengths(request)[0]
		require.GreaterOrEqual(t, k, 0)
		require.LessOrEqual(t, k, maxDraft)
	}
}

// TestCosts: between sizes, beyond them, and after outliers.
func TestCosts(t *testing.T) {
	var c costs
	require.Zero(t, c.of(3))
	c.add(4, 8)
	require.Equal(t, 8.0, c.of(1))
	require.Equal(t, 8.0, c.of(100))
	c.add(8, 10)
	require.Equal(t, 9.0, c.of(6))
	require.Equal(t, 7.0, c.of(2))
	require.Equal(t, 14.0, c.of(16))
	c.add(2, 1)
	require.Equal(t, 0.5, c.of(1), "no faster than the size")
	for range 3 {
		c.add(8, 10)
	}
	c.add(8, 1000)
	require.Equal(t, 10.0, c.of(8))
	for range lifetime + 1 {
		c.add(2, 1)
	}
	require.Equal(t, 1.0, c.of(8), "what nothing reported for long is forgotten")
}

func BenchmarkController(b *testing.B) {
	for _, n := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := NewController(8)
			requests := make([]*Acceptance, n)
			for i := range requests {
				requests[i] = new(Acceptance)
				c.ReportAccepted(requests[i], 8, i%9)
			}
			for i := range 16 {
				c.ReportTarget(n*(i+1), time.Millisecond)
				c.ReportDraft(slices.Repeat([]int{i % 9}, n), time.Millisecond)
			}
			b.ReportAllocs()
			for b.Loop() {
				c.Lengths(requests...)
			}
		})
	}
}
