// Package hiptest tests devices and kernels. It has a conformance suite for a [hip.Device],
// the comparison of one operation on two devices under the bound of the case, benchmarks
// that time a case only if its results are right, and GPUs to run all this on: a real one
// if there is one, and emulated ones, which need a C++ compiler and catch mistakes that a
// real GPU hides.
package hiptest

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/drafthead/drafthead/hip"
)

// Case is one operation on one input, ready to run on any device.
type Case struct {
	Name string

	// MaxError bounds |got − want| ÷ the largest |want|, over all float results
	// of the case. Integer results are always equal.
	MaxError float64

	// Setup uploads the input to d and returns what runs the operation once, and what reads
	// the results: floats are compared under MaxError, ints must be equal, and either may be
	// nil. Whatever Setup takes on d it frees with t.Cleanup.
	Setup func(t testing.TB, d hip.Device) (run func() error, results func() (floats []float32, ints []int32, err error))
}

// once runs the case once on d and returns its results.
func (c *Case) once(t testing.TB, d hip.Device) (floats []float32, ints []int32, err error) {
	s := &scope{TB: t}
	defer s.end()
	run, results := c.Setup(s, d)
	return c.read(run, results)
}

func (c *Case) read(run func() error, results func() ([]float32, []int32, error)) (floats []float32, ints []int32, err error) {
	if err = run(); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", c.Name, err)
	}
	if floats, ints, err = results(); err != nil {
		return nil, nil, fmt.Errorf("%s: read: %w", c.Name, err)
	}
	return floats, ints, nil
}

// scope is a part of a test: its cleanups run at the end of the part.
type scope struct {
	testing.TB
	cleanups []func()
}

func (s *scope) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

func (s *scope) end() {
	for _, f := range slices.Backward(s.cleanups) {
		f()
	}
}

// Compare runs the cases as subtests on d and on the reference device.
//
// A benchmark may have one case. It runs on d and on the reference, and if the results are
// right it is timed on d. For a rate, call b.SetBytes before.
func Compare(tb testing.TB, d hip.Device, cases ...Case) {
	tb.Helper()
	if b, ok := tb.(*testing.B); ok {
		if len(cases) != 1 {
			b.Fatalf("%d cases in one benchmark, want 1", len(cases))
		}
		bench(b, d, cases[0])
		return
	}
	t := tb.(*testing.T)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			gotF, gotI, err := c.once(t, d)
			if err == nil {
				err = c.check(t, gotF, gotI)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// check compares results with those of a fresh reference device and returns the first
// difference.
func (c *Case) check(t testing.TB, gotF []float32, gotI []int32) error {
	ref := hip.NewReference()
	defer ref.Close()
	wantF, wantI, err := c.once(t, ref)
	if err != nil {
		return fmt.Errorf("reference: %w", err)
	}
	return c.differ(gotF, wantF, gotI, wantI)
}

func (c *Case) differ(gotF, wantF []float32, gotI, wantI []int32) error {
	if len(wantF)+len(wantI) == 0 {
		return fmt.Errorf("%s: the case has no results to compare", c.Name)
	}
	if err := equalInts(gotI, wantI); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	if err := Within(gotF, wantF, c.MaxError); err != nil {
		return fmt.Errorf("%s: %w", c.Name, err)
	}
	return nil
}

// equalInts returns an error that names the first difference.
func equalInts(got, want []int32) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d integers, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			return fmt.Errorf("integer %d is %d, want %d", i, got[i], want[i])
		}
	}
	return nil
}

// Within returns an error that names the largest |got − want| if it is over
// bound times the largest finite |want|. NaN equals NaN, an infinity itself.
func Within(got, want []float32, bound float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d values, want %d", len(got), len(want))
	}
	worst, at, scale := 0.0, -1, maxAbs(want)
	for i := range want {
		g, w := float64(got[i]), float64(want[i])
		if g == w || math.IsNaN(g) && math.IsNaN(w) {
			continue
		}
		diff := math.Abs(g - w)
		if math.IsNaN(diff) || math.IsInf(diff, 0) {
			return fmt.Errorf("value %d is %v, want %v", i, g, w)
		}
		if diff > worst {
			worst, at = diff, i
		}
	}
	if worst > bound*scale {
		return fmt.Errorf("value %d is %v, want %v: off by %.3g of the largest magnitude %.4g, bound %.3g",
			at, got[at], want[at], worst/scale, scale, bound)
	}
	return nil
}

// maxAbs returns the largest finite magnitude.
func maxAbs(values []float32) float64 {
	largest := 0.0
	for _, v := range values {
		if a := math.Abs(float64(v)); a > largest && !math.IsInf(a, 0) {
			largest = a
		}
	}
	return largest
}
