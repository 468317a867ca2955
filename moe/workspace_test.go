package moe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/weights"
)

// TestWorkspaceGrows: results do not depend on what a workspace was used for before.
func TestWorkspaceGrows(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	small, large := validConfig(), validConfig()
	large.Hidden, large.Intermediate, large.Experts, large.TopK = 20, 30, 9, 5
	onEach(t, func(t *testing.T, d hip.Device) {
		ws := Workspace{observe: true}
		for _, c := range []Config{small, large, small} {
			m := randomMixture(rng, c, weights.F32)
			e := m.upload(t, d)
			for _, rows := range []int{1, 5, 2, 33, 3} {
				x, residual := randomValues(rng, rows*c.Hidden), randomValues(rng, rows*c.Hidden)
				hidden := alloc(t, d, len(x))
				require.NoError(t, e.Forward(d, &ws, hidden, upload(t, d, residual), upload(t, d, x), rows))
				require.Equal(t, m.forward(t, d, x, residual).hidden, read[float32](t, d, hidden, len(x)))
			}
		}
		require.NoError(t, ws.Free(d))
		for _, stage := range []string{"router_scores", "expert_ids", "expert_weights", "shared_out", "moe_routed_out", "moe_out"} {
			require.Zero(t, ws.Stage(stage), stage)
		}
		require.NoError(t, ws.Free(d), "twice")
	})
}

// TestWorkspaceReserve: after a Reserve nothing is allocated, and what is not
// observed takes no memory.
func TestWorkspaceReserve(t *testing.T) {
	c, rows := validConfig(), 9
	for _, observe := range []bool{false, true} {
		t.Run(fmt.Sprintf("observe %v", observe), func(t *testing.T) {
			d := hip.NewReference()
			e := randomMixture(rand.New(rand.NewPCG(1, 1)), c, weights.F32).upload(t, d)
			x := alloc(t, d, rows*c.Hidden)
			ws := Workspace{observe: observe}
			require.NoError(t, ws.Reserve(d, &c, rows, observe))
			before, _ := hiptest.InUse(d)
			for n := 1; n <= rows; n++ {
				require.NoError(t, e.Forward(d, &ws, x, x, x, n))
			}
			after, _ := hiptest.InUse(d)
			require.Equal(t, before, after)
			require.NotZero(t, ws.Stage("shared_out"))
			require.Equal(t, observe, ws.Stage("moe_routed_out") != 0)
			require.Equal(t, observe, ws.Stage("moe_out") != 0)
			require.Zero(t, ws.Stage("no_such_stage"))
			require.NoError(t, ws.Free(d))
		})
	}
	bad := validConfig()
	bad.TopK = 0
	var ws Workspace
	require.ErrorIs(t, ws.Reserve(hip.NewReference(), &bad, 1, false), hip.ErrInput)
	require.ErrorIs(t, ws.Reserve(hip.NewReference(), &c, -1, false), hip.ErrInput)
}

// TestWorkspaceSizesDoNotOverflow: sizes near the ends of int32 are an error
// of memory, not a small allocation.
func TestWorkspaceSizesDoNotOverflow(t *testing.T) {
	d := hip.NewReference()
	c := validConfig()
	c.Experts = 1<<31 - 2
	c.TopK = 1
	var ws Workspace
	require.ErrorIs(t, ws.Reserve(d, &c, 1<<31-1, false), hip.ErrOutOfMemory)
	require.NoError(t, ws.Free(d))
}

// TestFaults: after a failed allocation or launch, wherever it was, the same
// workspace computes the right result, and nothing leaks.
func TestFaults(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	c := validConfig()
	m := randomMixture(rng, c, weights.F32)
	x, residual := randomValues(rng, 3*c.Hidden), randomValues(rng, 3*c.Hidden)
	reference := hip.NewReference()
	want := m.forward(t, reference, x, residual).hidden
	e := m.upload(t, reference)
	px, pr, hidden := upload(t, reference, x), upload(t, reference, residual), alloc(t, reference, len(x))
	_, live := hiptest.InUse(reference)

	try := func(n int, op string) bool {
		broken := errors.New("broken")
		d := hiptest.NewFaulty(reference, broken)
		var ws Workspace
		require.NoError(t, e.Forward(d, &ws, hidden, pr, px, 1)) // so that the next one grows
		d.FailAt(n, op)
		err := e.Forward(d, &ws, hidden, pr, px, 3)
		if err != nil {
			require.ErrorIs(t, err, broken)
			require.NoError(t, e.Forward(d, &ws, hidden, pr, px, 3))
		}
		require.Equal(t, want, read[float32](t, d, hidden, len(x)))
		require.NoError(t, ws.Free(d))
		_, after := hiptest.InUse(reference)
		require.Equal(t, live, after, "leaked")
		return err != nil
	}
	failedAllocs, failedLaunches := 0, 0
	for try(failedAllocs+1, "alloc") {
		failedAllocs++
	}
	for try(failedLaunches+1, "launch") {
		failedLaunches++
	}
	require.Equal(t, 10, failedAllocs, "nine buffers have a size per row, and active grows with them")
	require.Equal(t, 8, failedLaunches, "the launches of a Forward")
}

// TestBadAddress: memory that does not hold what the arguments say is
// found by the launch, which is named.
func TestBadAddress(t *testing.T) {
	onEach(t, func(t *testing.T, d hip.Device) {
		e := randomMixture(rand.New(rand.NewPCG(1, 1)), validConfig(), weights.F32).upload(t, d)
		var ws Workspace
		short, x := alloc(t, d, 1), alloc(t, d, 8)
		require.ErrorContains(t, e.Forward(d, &ws, x, x, short, 1), "kernel product_one: ")
		err := e.Forward(d, &ws, short, x, x, 1)
		require.ErrorContains(t, err, "kernel moe_combine: ")
		require.ErrorIs(t, err, hip.ErrAccess)
		require.NoError(t, ws.Free(d))
	})
}

// gridRecorder launches nothing and keeps the grid.
type gridRecorder struct {
	hip.Device
	grid hip.Grid
}

func (d *gridRecorder) Launch(_ *hip.Kernel, g hip.Grid, _ unsafe.Pointer) error {
	d.grid = g
	return nil
}
