package norm_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/norm"
)

func forEachDevice(t *testing.T, f func(t *testing.T, d hip.Device)) {
	devices := map[string]hip.Device{"reference": hip.NewReference()}
	for name, d := range hiptest.Hosts(2) {
		devices[name] = d
	}
	for name, d := range hiptest.Hosts(2) {
		devices["checked "+name] = hip.Check(d)
	}
	for name, d := range devices {
		t.Run(name, func(t *testing.T) {
			f(t, d)
			require.NoError(t, d.Close())
		})
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { f(t, hip.Check(d)) })
}

func upload(t *testing.T, d hip.Device, values []float32) hip.Ptr {
	t.Helper()
	p, err := hip.Upload(d, values)
	require.NoError(t, err)
	return p
}

func download(t *testing.T, d hip.Device, p hip.Ptr, n int) []float32 {
	t.Helper()
	values := make([]float32, n)
	require.NoError(t, hip.ReadOf(d, values, p))
	return values
}

func constant(n int, v float32) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = v
	}
	return values
}

func random(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(r.NormFloat64())
	}
	return values
}

func TestGPUAgainstReference(t *testing.T) {
	var cases []hiptest.Case
	// Around the threads of a block, the values that they keep, and pieces of 4.
	for _, n := range []int{1, 4, 31, 65, 511, 512, 513, 1000, 2047, 2048, 2052, 6144, 8191, 8192, 8193, 8196, 17000} {
		cases = append(cases, normCase(n, 3, false), normCase(n, 2, true))
	}
	hiptest.OnGPUs(t, func(t *testing.T, d hip.Device) { hiptest.Compare(t, hip.Check(d), cases...) })
}

func TestHostAgainstReference(t *testing.T) {
	var cases []hiptest.Case
	for _, n := range []int{1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 512, 6144} {
		for _, rows := range []int{1, 2, 3, 65} {
			cases = append(cases, normCase(n, rows, false), normCase(n, rows, true))
		}
	}
	for name, d := range hiptest.Hosts(2) {
		t.Run(name, func(t *testing.T) {
			hiptest.Compare(t, d, cases...)
			_, live := hiptest.InUse(d)
			require.Zero(t, live)
			require.NoError(t, d.Close())
		})
	}
}

// normCase returns y and the residual stream of one launch.
func normCase(n, rows int, add bool) hiptest.Case {
	name := fmt.Sprintf("n %d rows %d add %t", n, rows, add)
	return hiptest.Case{Name: name, MaxError: 1e-6, Setup: func(t testing.TB, d hip.Device) (func() error, func() ([]float32, []int32, error)) {
		var buffers [4]hip.Ptr
		for i, size := range []int{rows * n, rows * n, rows * n, n} {
			p, err := hip.Upload(d, random(uint64(i), size))
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, d.Free(p)) })
			buffers[i] = p
		}
		y, residual, x, w := buffers[0], buffers[1], buffers[2], buffers[3]
		run := func() error {
			if add {
				return norm.AddRMSNorm(d, y, residual, x, w, rows, n, 1e-6)
			}
			return norm.RMSNorm(d, y, x, w, rows, n, 1e-6)
		}
		return run, func() ([]float32, []int32, error) {
			values := make([]float32, 2*rows*n)
			if err := hip.ReadOf(d, values[:rows*n], y); err != nil {
				return nil, nil, err
			}
			return values, nil, hip.ReadOf(d, values[rows*n:], residual)
		}
	}}
}

func TestAddRMSNormIsTheSumThenTheNorm(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		const rows, n = 3, 65
		x, residual, w := random(1, rows*n), random(2, rows*n), random(3, n)
		px, pr, pw := upload(t, d, x), upload(t, d, residual), upload(t, d, w)
		require.NoError(t, norm.AddRMSNorm(d, px, pr, px, pw, rows, n, 1e-6), "y may be x")
		for i := range residual {
			residual[i] += x[i]
		}
		require.Equal(t, residual, download(t, d, pr, rows*n), "rounded once")
		py, ps := upload(t, d, make([]float32, rows*n)), upload(t, d, residual)
		require.NoError(t, norm.RMSNorm(d, py, ps, pw, rows, n, 1e-6))
		require.Equal(t, download(t, d, py, rows*n), download(t, d, px, rows*n))
	})
}

func TestNaNStaysInItsRow(t *testing.T) {
	forEachDevice(t, func(t *testing.T, d hip.Device) {
		const rows, n = 65, 33
		x := random(1, rows*n)
		clean, w := upload(t, d, x), upload(t, d, random(2, n))
		x[40*n+7] = float32(math.NaN())
		spoiled := upload(t, d, x)
		require.NoError(t, norm.RMSNorm(d, clean, clean, w, rows, n, 1e-6))
		require.NoError(t, norm.RMSNorm(d, spoiled, spoiled, w, rows, n, 1e-6))
		want := download(t, d, clean, rows*n)
		for i := range n {
			want[40*n+i] = float32(math.NaN())
		}
		require.NoError(t, hiptest.Within(download(t, d, spoiled, rows*n), want, 0))
	})
}

func TestRefusedArguments(t *testing.T) {
	d := hip.NewReference()
	defer d.Close()
	p := upload(t, d, constant(64, 1))
	tests := []struct {
		name     string
		err      error
		argument string
	}{
		{"negative rows", norm.RMSNorm(d, p, p, p, -1, 8, 1e-6), "rows"},
		{"no columns", norm.RMSNorm(d, p, p, p, 1, 0, 1e-6), "n"},
		{"negative eps", norm.RMSNorm(d, p, p, p, 1, 8, -1), "eps"},
		{"eps is NaN", norm.RMSNorm(d, p, p, p, 1, 8, math.NaN()), "eps"},
		{"eps is infinite", norm.RMSNorm(d, p, p, p, 1, 8, math.Inf(1)), "eps"},
		{"no y", norm.RMSNorm(d, 0, p, p, 1, 8, 1e-6), "y"},
		{"no x", norm.RMSNorm(d, p, 0, p, 1, 8, 1e-6), "x"},
		{"no weight", norm.RMSNorm(d, p, p, 0, 1, 8, 1e-6), "w"},
		{"no residual", norm.AddRMSNorm(d, p, 0, p, p, 1, 8, 1e-6), "residual"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.ErrorIs(t, test.err, hip.ErrInput)
			var argument *hip.InputError
			require.ErrorAs(t, test.err, &argument)
			require.Equal(t, test.argument, argument.Field)
		})
	}
	require.Equal(t, constant(64, 1), download(t, d, p, 64), "nothing was launched")
	require.NoError(t, norm.RMSNorm(d, 0, 0, 0, 0, 8, 1e-6), "no rows, nothing to do")

	err := norm.RMSNorm(d, 0, 0, 0, 1, 8, -1)
	for _, argument := range []string{"eps", "y", "x", "w"} {
		require.ErrorContains(t, err, argument+" is", "all problems together")
	}
}
