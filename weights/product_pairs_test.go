package weights

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

// rounded are the ways of rounding that a host has.
var rounded = []hip.Activations{hip.ActivationsBF16x2, hip.ActivationsBF16}

// hostsOfAll returns the hosts of every level, those that round activations too.
func hostsOfAll(threads int) map[string]hip.Device {
	hosts := hiptest.Hosts(threads)
	maps.Copy(hosts, hiptest.Hosts(threads, rounded...))
	return hosts
}

// roundedBy is what the results of one of them may be off by for its rounding.
func roundedBy(name string) float64 {
	for _, a := range rounded {
		if strings.HasSuffix(name, ", "+a.String()) {
			return roundingBound(a)
		}
	}
	return 0
}

// roundingBound is what rounded activations may be off by, of the largest result.
func roundingBound(a hip.Activations) float64 {
	switch a {
	case hip.ActivationsBF16x2:
		return 2e-5
	case hip.ActivationsBF16:
		return 1e-2
	}
	return productBound
}

// TestRoundedProductCutoffs is TestProductCutoffs with activations as two and as one
// bfloat16: rows of x as stored and in panels, of one, two and three at a time, and of pairs,
// the last row with another and without, and columns around chunks, the scales of eight of
// them, and panels.
func TestRoundedProductCutoffs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 5))
	colCounts := []int{63, 64, 65, 448, 512, 513, 576, 1024, 1088, 1152, 2112}
	if hiptest.RaceDetector {
		colCounts = []int{65, 640}
	}
	for _, a := range rounded {
		var cases []hiptest.Case
		for _, f := range allFormats {
			for _, cols := range colCounts {
				s := newStored(r, f, 71, cols)
				for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 65, 97, 257} {
					c := productCase(fmt.Sprintf("%v/%d cols/%d rows", f, cols, n), 1, randomFloats(r, n*cols), s)
					c.MaxError = roundingBound(a)
					cases = append(cases, c)
				}
			}
		}
		for name, d := range hiptest.Hosts(1, a) {
			t.Run(name, func(t *testing.T) { hiptest.Compare(t, d, cases...) })
			require.NoError(t, d.Close())
		}
	}
}

// TestPairsMultiplyWhatTheyRound: with values that have no more bits than the parts, rounded
// products are as good as exact ones, but for sums that have more steps in one lane.
func TestPairsMultiplyWhatTheyRound(t *testing.T) {
	const bound = 3 * productBound
	r := rand.New(rand.NewPCG(7, 6))
	for a, bits := range map[hip.Activations]int{hip.ActivationsBF16x2: 16, hip.ActivationsBF16: 8} {
		for _, f := range []Format{BF16, MXFP8} {
			s := newStored(r, f, 37, 1152)
			for _, n := range []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 97} {
				x := randomFloats(r, n*s.cols)
				for i, v := range x {
					fraction, exponent := math.Frexp(float64(v))
					x[i] = float32(math.Ldexp(math.Trunc(math.Ldexp(fraction, bits)), exponent-bits))
				}
				want := multiplied(t, hip.NewReference(), 0, x, s)
				for name, d := range hiptest.Hosts(1, a) {
					require.NoError(t, hiptest.Within(multiplied(t, d, 0, x, s), want, bound), "%v, %d rows on %s", f, n, name)
					require.NoError(t, d.Close())
				}
			}
		}
	}
}

// TestProductsAreRounded: in no form are they left to exact products, whose results differ
// in some bits.
func TestProductsAreRounded(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, f := range []Format{BF16, MXFP8} {
		s := newStored(r, f, 37, 1152)
		for _, n := range []int{1, 3, 4, 5, 9, 33} {
			x := randomFloats(r, n*s.cols)
			want := multiplied(t, hip.NewReference(), 0, x, s)
			for name, d := range hiptest.Hosts(1, hip.ActivationsBF16) {
				y := multiplied(t, d, 0, x, s)
				for row := range s.rows {
					require.Error(t, hiptest.Within(y[row:row+1], want[row:row+1], 1e-7), "%v, %d rows on %s: row %d of the weights", f, n, name, row)
				}
				require.NoError(t, d.Close())
			}
		}
	}
}

// asked is a device whose launches are asked to round.
type asked struct {
	hip.Device
	rounds hip.Activations
}

func (d asked) Unwrap() hip.Device { return d.Device }

func (d asked) Launch(k *hip.Kernel, grid hip.Grid, args unsafe.Pointer) error {
	grid.Activations = d.rounds
	return d.Device.Launch(k, grid, args)
}

// TestLaunchesRound: a launch that is asked to round has the bits of a host that always does,
// on one that does not, or does otherwise. What a CPU cannot be asked for, and no rounding,
// leave a launch as the host was opened. A check allows for what was asked.
func TestLaunchesRound(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 10))
	for _, f := range allFormats {
		s := newStored(r, f, 37, 640)
		for _, n := range []int{1, 4, 17} {
			x := randomFloats(r, n*s.cols)
			want := map[hip.Activations][]float32{}
			hosts := map[hip.Activations]hip.Device{}
			for _, a := range []hip.Activations{hip.ActivationsExact, hip.ActivationsBF16x2, hip.ActivationsBF16} {
				d, err := hip.OpenHost(hip.HostOptions{Threads: 2, Activations: a})
				require.NoError(t, err)
				hosts[a], want[a] = d, multiplied(t, d, 0, x, s)
			}
			checked := hip.Check(hip.NewHost(2))
			for _, a := range rounded {
				require.Equal(t, want[a], multiplied(t, asked{checked, a}, 0, x, s), "%v, %d rows, %v", f, n, a)
			}
			for opened, d := range hosts {
				for _, a := range rounded {
					require.Equal(t, want[a], multiplied(t, asked{d, a}, 0, x, s), "%v, %d rows, %v on %v", f, n, a, opened)
				}
				for _, a := range []hip.Activations{hip.ActivationsExact, hip.ActivationsMXFP8, -1, 9} {
					require.Equal(t, want[opened], multiplied(t, asked{d, a}, 0, x, s), "%v, %d rows, %v on %v", f, n, a, opened)
				}
				require.NoError(t, d.Close())
			}
			require.NoError(t, checked.Close())
		}
	}
}

// TestRoundedRowsAreIndependent: a row of x has the same results beside any others, where it
// is multiplied together with them, too.
func TestRoundedRowsAreIndependent(t *testing.T) {
	const cols = 640
	r := rand.New(rand.NewPCG(7, 9))
	for _, f := range []Format{BF16, MXFP8} {
		s := newStored(r, f, 37, cols)
		for _, n := range []int{2, 3, 6, 7, 8, 9, 97} {
			x := randomFloats(r, n*cols)
			for name, d := range hostsOfAll(1) {
				want := multiplied(t, d, 0, x, s)
				for _, row := range []int{0, n / 2, n - 1} {
					beside := randomFloats(r, n*cols)
					copy(beside[row*cols:][:cols], x[row*cols:])
					got := multiplied(t, d, 0, beside, s)
					require.Equal(t, want[row*s.rows:][:s.rows], got[row*s.rows:][:s.rows], "%v on %s: row %d of %d", f, name, row, n)
				}
				require.NoError(t, d.Close())
			}
		}
	}
}

// TestProductOfSubnormals: dot products of bfloat16, and tiles, take what is below 2^−126 as
// zero, in x, in its parts and in the weights. Float32 products do not. A result is off by
// no more than the sum of what was lost: 2^−126 for each part of an x, times its weight, and
// 2^−126 for each weight, times its x.
func TestProductOfSubnormals(t *testing.T) {
	const rows, cols = 84, 1152
	r := rand.New(rand.NewPCG(7, 7))
	s := newStored(r, BF16, rows, cols)
	for _, n := range []int{1, 4, 5, 16} {
		for _, exponent := range []int{-140, -126, -118, -110} {
			x := randomFloats(r, n*cols)
			for i, v := range x {
				x[i] = float32(math.Ldexp(float64(v), exponent))
			}
			want := multiplied(t, hip.NewReference(), 0, x, s)
			for name, d := range hostsOfAll(1) {
				got := multiplied(t, d, 0, x, s)
				for i := range want {
					sum, terms := 0.0, 0.0
					for c, w := range s.values[i%rows*cols:][:cols] {
						sum += math.Abs(float64(w))
						terms += math.Abs(float64(w) * float64(x[i/rows*cols+c]))
					}
					bound := math.Ldexp(exactParts*sum+cols, -126) + terms*max(productBound, roundedBy(name))
					require.LessOrEqual(t, math.Abs(float64(got[i])-float64(want[i])), bound, "2^%d, %d rows on %s", exponent, n, name)
				}
				require.NoError(t, d.Close())
			}
		}
	}
}
