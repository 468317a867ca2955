package hip_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

// drift is wrong on the host: by Off in value At, in each of its outputs.
type driftArgs struct {
	F, B, I hip.Ptr // float32, bfloat16, int32
	N, At   int32
	Off     float32
	Turn    int32 // added to the integer
}

func driftTwin(b *hip.Blocks, a *driftArgs) { drifted(b, a, 0, 0) }

func drifted(b *hip.Blocks, a *driftArgs, off float32, turn int32) {
	f, h, n := hip.Out[float32](b, a.F, int(a.N)), hip.Out[hip.BF16](b, a.B, int(a.N)), hip.Out[int32](b, a.I, int(a.N))
	for i := b.First; i < b.End; i++ {
		v := float32(i) - 3
		if int32(i) == a.At {
			v += off
			n[i] += turn
		}
		f[i], h[i] = v, hip.ToBF16(v)
		n[i] += int32(i)
	}
}

var drift = hip.NewKernel("test_drift", "", driftTwin).Fast(1e-3, func(b *hip.Blocks, a *driftArgs) { drifted(b, a, a.Off, a.Turn) })

type hiddenArgs struct{ y hip.Ptr }

func writeHidden(v int32) func(*hip.Blocks, *hiddenArgs) {
	return func(b *hip.Blocks, a *hiddenArgs) { hip.Out[int32](b, a.y, 1)[0] = v }
}

var hidden = hip.NewKernel("test_hidden", "", writeHidden(1)).Fast(0, writeHidden(2))

// TestCheckWithHiddenFields: arguments are named as Go's reflection sees them, which
// may not look into fields of another package.
func TestCheckWithHiddenFields(t *testing.T) {
	d := hip.Check(hip.NewHost())
	defer d.Close()
	y, err := d.Alloc(4)
	require.NoError(t, err)
	err = hidden.Launch(d, hip.Grid{Blocks: 1}, &hiddenArgs{y})
	require.ErrorIs(t, err, hip.ErrMismatch)
	require.ErrorContains(t, err, ": y[0] is 2, the reference has 1 ")
}

func TestCheckNamesTheKernelThatDiffers(t *testing.T) {
	const n = 50
	d := hip.Check(hip.NewHost())
	defer d.Close()
	a := &driftArgs{N: n, At: 20}
	var err error
	a.F, err = d.Alloc(4 * int64(n))
	require.NoError(t, err)
	a.B, err = d.Alloc(2 * int64(n))
	require.NoError(t, err)
	a.I, err = d.Alloc(4 * int64(n))
	require.NoError(t, err)
	launch := func() error { return drift.Launch(d, hip.Grid{Blocks: n}, a) }

	require.NoError(t, launch())
	a.Off = 0.04 // the largest magnitude is 46, the bound 0.046
	require.NoError(t, launch())
	a.Off = 0.05
	err = launch()
	require.ErrorIs(t, err, hip.ErrMismatch)
	require.Regexp(t, `^hip: kernel test_drift: launch 3: F\[20\] is 17\.0(5|49999\d+|5000\d+), the reference has 17 \(bound on the difference 0\.046\): differs from the reference$`, err.Error())

	a.Off = float32(math.NaN())
	require.ErrorIs(t, launch(), hip.ErrMismatch, "a NaN where the reference has a number")
	a.Off, a.Turn = 0, 1
	err = launch()
	require.ErrorIs(t, err, hip.ErrMismatch, "integers are equal or wrong")
	require.ErrorContains(t, err, ": I[20] is ")
	a.Turn = 0
	require.NoError(t, launch(), "the next launch is judged by itself")
}

func TestCheckKeepsItsBoundBesideNaN(t *testing.T) {
	d := hip.Check(hip.NewHost())
	defer d.Close()
	x, err := hip.Upload(d, []float32{float32(math.NaN()), 100, 1})
	require.NoError(t, err)
	y, err := d.Alloc(12)
	require.NoError(t, err)
	launch := func(off float32) error {
		return perturb.Launch(d, hip.Grid{Blocks: 3}, &perturbArgs{X: x, Y: y, N: 3, Off: off})
	}
	require.NoError(t, launch(0.09))
	require.ErrorIs(t, launch(0.11), hip.ErrMismatch)
}

// perturb copies x, and is off by Off on the host.
type perturbArgs struct {
	X, Y hip.Ptr // [N] float32
	N    int32
	Off  float32
}

func perturbed(b *hip.Blocks, a *perturbArgs, off float32) {
	x, y := hip.In[float32](b, a.X, int(a.N)), hip.Out[float32](b, a.Y, int(a.N))
	for i := b.First; i < b.End; i++ {
		y[i] = x[i] + off
	}
}

var perturb = hip.NewKernel("test_perturb", "", func(b *hip.Blocks, a *perturbArgs) { perturbed(b, a, 0) }).
	Fast(1e-3, func(b *hip.Blocks, a *perturbArgs) { perturbed(b, a, a.Off) })

func TestCheckSeesTheSameInput(t *testing.T) {
	d := hip.Check(hip.NewHost())
	defer d.Close()
	x, err := hip.Upload(d, []int32{5, 6, 7})
	require.NoError(t, err)
	y, err := d.Alloc(12)
	require.NoError(t, err)
	require.NoError(t, d.Copy(y, x, 12))
	for range 3 {
		require.NoError(t, count.Launch(d, hip.Grid{Blocks: 3}, &countArgs{Y: y, N: 3}))
	}
	got := make([]int32, 3)
	require.NoError(t, hip.ReadOf(d, got, y))
	require.Equal(t, []int32{8, 9, 10}, got)
}

type pairArgs struct {
	Y, Z hip.Ptr // [N] int32 each
	N    int64
}

// pair writes two ranges, which may touch.
var pair = hip.NewKernel("test_pair", "", func(b *hip.Blocks, a *pairArgs) {
	copy(hip.Out[int32](b, a.Y, int(a.N)), []int32{1, 2, 3, 4})
	copy(hip.Out[int32](b, a.Z, int(a.N)), []int32{5, 6, 7, 8})
})

// TestCheckOfAllocationsThatTouch: what a launch writes at the end of one allocation
// and at the beginning of the next is compared as two ranges.
func TestCheckOfAllocationsThatTouch(t *testing.T) {
	d := hip.Check(hip.NewHost())
	mem := make([]byte, 32)
	y, err := ability[hip.Adopter](t, d).Adopt(mem[:16:16], true)
	require.NoError(t, err)
	z, err := ability[hip.Adopter](t, d).Adopt(mem[16:], true)
	require.NoError(t, err)
	require.Equal(t, y.Add(16), z)
	require.NoError(t, pair.Launch(d, hip.Grid{Blocks: 1}, &pairArgs{Y: y, Z: z, N: 4}))
	require.Equal(t, []byte{1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0}, mem)
	require.NoError(t, d.Close())
}
