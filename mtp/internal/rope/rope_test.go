package rope_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp/internal/rope"
)

// frequencyBound is the relative error allowed against values computed in 40 digits.
const frequencyBound = 1e-14

func requireFrequencies(t *testing.T, want, got []float64) {
	t.Helper()
	require.Len(t, got, len(want))
	for j := range want {
		require.InEpsilon(t, want[j], got[j], frequencyBound, "pair %d", j)
	}
}

func TestFrequenciesDefault(t *testing.T) {
	// theta = b^(dim/2) makes f[j] = b^-j.
	r := rope.Rule{Theta: 10000, Dim: 8, Type: "default", MaxPosition: 128}
	requireFrequencies(t, []float64{1, 0.1, 0.01, 0.001}, r.Frequencies())

	r.Theta, r.Dim = 5e6, 64
	frequencies := r.Frequencies()
	require.Len(t, frequencies, 32)
	require.Equal(t, 1.0, frequencies[0])
	require.InEpsilon(t, 1/math.Sqrt(5e6), frequencies[16], frequencyBound)
}

func TestFrequenciesLinear(t *testing.T) {
	r := rope.Rule{Theta: 10000, Dim: 8, Type: "linear", Factor: 4, MaxPosition: 128}
	requireFrequencies(t, []float64{0.25, 0.025, 0.0025, 0.00025}, r.Frequencies())
}

// The literals were computed from the formulas of arXiv:2309.00071 with 40
// decimal digits, independently of this package.
func TestFrequenciesYaRN(t *testing.T) {
	tests := []struct {
		name string
		rule rope.Rule
		want []float64
	}{
		{
			"ramp inside the range",
			rope.Rule{Theta: 10000, Dim: 16, Factor: 4, OriginalMaxPosition: 4096, BetaFast: 32, BetaSlow: 1},
			[]float64{1, 0.31622776601683793, 0.1, 0.025693505988868082, 0.00625, 0.001383496476323666, 0.00025, 7.9056941504209483e-5},
		},
		{
			"head geometry of the released model, factor 4 over 262144",
			rope.Rule{Theta: 5000000, Dim: 64, Factor: 4, OriginalMaxPosition: 262144, BetaFast: 32, BetaSlow: 1},
			[]float64{
				1, 0.61752875812632332, 0.38134176711303912, 0.23548950786701265, 0.14542154334489537, 0.089801985066586534,
				0.055455308315447814, 0.034245247675550859, 0.021147425268811282, 0.01305914326381826, 0.0080643965218994309,
				0.0049799967692067967, 0.0030752912203613755, 0.0018990807681865455, 0.0011727369883598215, 0.00066384891469475799,
				0.00037267799624996495, 0.00020712544218472269, 0.00011369414852328656, 6.1433230550838043e-5, 3.2517245631211819e-5,
				1.6733611926942372e-5, 8.2667892737700442e-6, 3.8287350854424192e-6, 2.3643540225079395e-6, 1.460056603290305e-6,
				9.0162694102399994e-7, 5.5678056518378644e-7, 3.4382801096681605e-7, 2.1232368462138179e-7, 1.3111598128504703e-7,
				8.0967889093469341e-8,
			},
		},
		{
			"other betas",
			rope.Rule{Theta: 10000, Dim: 16, Factor: 8, OriginalMaxPosition: 1024, BetaFast: 16, BetaSlow: 2},
			[]float64{1, 0.31622776601683793, 0.1, 0.017787811838447134, 0.00125, 0.00039528470752104742, 0.000125, 3.9528470752104742e-5},
		},
		{
			"low clamped to 0",
			rope.Rule{Theta: 10000, Dim: 8, Factor: 2, OriginalMaxPosition: 8, BetaFast: 32, BetaSlow: 1},
			[]float64{1, 0.05, 0.005, 0.0005},
		},
		{
			"low equal to high",
			rope.Rule{Theta: 1000000, Dim: 8, Factor: 2, OriginalMaxPosition: 6, BetaFast: 4, BetaSlow: 3},
			[]float64{1, 0.015811388300841897, 0.0005, 1.5811388300841897e-5},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.rule.Type = "yarn"
			requireFrequencies(t, test.want, test.rule.Frequencies())
		})
	}
}

// Whatever the parameters, YaRN lies between interpolation and plain RoPE, and
// factor 1 changes nothing.
func TestFrequenciesYaRNIsBetween(t *testing.T) {
	for _, theta := range []float64{10, 10000, 5e6} {
		for _, dim := range []int{2, 8, 64} {
			for _, original := range []int{16, 4096, 1 << 20} {
				t.Run(fmt.Sprintf("theta=%g/dim=%d/original=%d", theta, dim, original), func(t *testing.T) {
					yarn := rope.Rule{
						Theta: theta, Dim: dim, Type: "yarn", Factor: 8,
						OriginalMaxPosition: original, BetaFast: 32, BetaSlow: 1,
					}
					plain := rope.Rule{Theta: theta, Dim: dim, Type: "default"}
					kept := plain.Frequencies()
					for j, f := range yarn.Frequencies() {
						require.LessOrEqual(t, f, kept[j]*(1+frequencyBound), "pair %d", j)
						require.GreaterOrEqual(t, f, kept[j]/yarn.Factor*(1-frequencyBound), "pair %d", j)
					}
					yarn.Factor = 1
					requireFrequencies(t, kept, yarn.Frequencies())
				})
			}
		}
	}
}

func TestPositions(t *testing.T) {
	tests := []struct {
		name string
		rule rope.Rule
		want int
	}{
		{"default", rope.Rule{Type: "default", MaxPosition: 1048576}, 1048576},
		{"default ignores factor", rope.Rule{Type: "default", MaxPosition: 100, Factor: 4}, 100},
		{"linear", rope.Rule{Type: "linear", MaxPosition: 4096, Factor: 4}, 16384},
		{"linear rounds up", rope.Rule{Type: "linear", MaxPosition: 3, Factor: 1.5}, 5},
		{"yarn extends", rope.Rule{Type: "yarn", MaxPosition: 4096, OriginalMaxPosition: 4096, Factor: 4}, 16384},
		{"yarn already extended", rope.Rule{Type: "yarn", MaxPosition: 16384, OriginalMaxPosition: 4096, Factor: 2}, 16384},
		{"linear beyond int32", rope.Rule{Type: "linear", MaxPosition: 1 << 30, Factor: 1e300}, math.MaxInt32},
		{"yarn beyond int32", rope.Rule{Type: "yarn", MaxPosition: 1, OriginalMaxPosition: 1 << 30, Factor: math.Inf(1)}, math.MaxInt32},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			require.Equal(t, test.want, test.rule.Positions())
		})
	}
}
