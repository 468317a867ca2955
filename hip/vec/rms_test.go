package vec

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func constant(n int, v float32) []float32 {
	values := make([]float32, n)
	for i := range values {
		values[i] = v
	}
	return values
}

func TestRMSClosedForms(t *testing.T) {
	tests := []struct {
		name    string
		x, w    []float32
		eps     float64
		want    []float32
		epsilon float64
	}{
		{"constant row", constant(7, 5), constant(7, 0), 0, constant(7, 1), 1e-6},
		{"negative constant", constant(7, -5), constant(7, 0), 0, constant(7, -1), 1e-6},
		{"weight is added to one", constant(3, 2), []float32{0, 1, -3}, 0, []float32{1, 2, -2}, 1e-6},
		{"weight -1", []float32{1, 2, 3}, constant(3, -1), 1e-6, constant(3, 0), 0},
		{"3 4", []float32{3, 4}, constant(2, 0), 0, []float32{0.8485281, 1.1313709}, 1e-6},
		{"eps is added to the mean, inside of the root", []float32{1, 1}, constant(2, 0), 3, constant(2, 0.5), 1e-6},
		{"zeros", constant(9, 0), constant(9, 0), 1e-6, constant(9, 0), 0},
		{"squares overflow float32", constant(9, 1e30), constant(9, 0), 1e-6, constant(9, 1), 1e-6},
		{"squares vanish in float32", constant(9, 1e-30), constant(9, 0), 0, constant(9, 1), 1e-6},
		{"NaN", []float32{1, nan}, constant(2, 0), 1e-6, []float32{nan, nan}, 0},
		{"infinity", []float32{1, inf}, constant(2, 0), 1e-6, []float32{0, nan}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plain := func(dst, x, w []float32, eps float64) { RMS(hip.SIMDNone, dst, x, w, eps) }
			for name, rms := range map[string]func(dst, x, w []float32, eps float64){"RMS64": RMS64, "RMS": plain} {
				got := make([]float32, len(test.x))
				rms(got, test.x, test.w, test.eps)
				require.NoError(t, hiptest.Within(got, test.want, test.epsilon), name)
				inPlace := append([]float32(nil), test.x...)
				rms(inPlace, inPlace, test.w, test.eps)
				require.NoError(t, hiptest.Within(inPlace, got, 0), "%s in place", name)
			}
		})
	}
}

// Scaling a row changes nothing while eps is small beside it.
func TestRMSScaleInvariance(t *testing.T) {
	x, w := guarded(t, 1, 100), guarded(t, 2, 100)
	want, got := make([]float32, 100), make([]float32, 100)
	RMS64(want, x, w, 0)
	for _, k := range []float32{0x1p-20, 0.5, 0x1p20} {
		scaled := make([]float32, len(x))
		for i := range x {
			scaled[i] = k * x[i]
		}
		RMS64(got, scaled, w, 0)
		require.Equal(t, want, got, "a power of two is exact")
	}
}

func TestRMSOfEveryLevel(t *testing.T) {
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range lengths {
			x, w, dst := guarded(t, 1, n), guarded(t, 2, n), guarded(t, 3, n)
			want := make([]float32, n)
			RMS64(want, x, w, 1e-6)
			RMS(simd, dst, x, w, 1e-6)
			require.NoError(t, hiptest.Within(dst, want, 1e-6), "n %d", n)
			RMS(simd, x, x, w, 1e-6)
			require.Equal(t, dst, x, "n %d in place", n)
			for _, special := range []float32{inf, nan, 1e30, 1e-30} {
				for i := range x {
					x[i] = special / 4
				}
				RMS64(want, x, w, 0)
				RMS(simd, dst, x, w, 0)
				require.NoError(t, hiptest.Within(dst, want, 1e-6), "n %d of %g", n, special)
			}
		}
	})
}

func TestAdd(t *testing.T) {
	forEachLevel(t, func(t *testing.T, simd hip.SIMD) {
		for _, n := range lengths {
			sum, x := guarded(t, 1, n), guarded(t, 2, n)
			want := make([]float32, n)
			for i := range want {
				want[i] = sum[i] + x[i]
			}
			Add(simd, sum, x)
			require.Equal(t, want, sum, "n %d", n)
		}
	})
}
