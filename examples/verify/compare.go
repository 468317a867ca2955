package main

import (
	"math"
)

// stageResult is one comparison, as it is printed.
type stageResult struct {
	Name   string  `json:"name"`
	MaxAbs float64 `json:"max_abs"` // largest difference; of integers, how many differ
	MaxRef float64 `json:"max_ref"` // largest magnitude expected
	Bound  float64 `json:"bound"`   // on max_abs
	OK     bool    `json:"ok"`
	Ties   int     `json:"ties,omitempty"` // integers that differ where the margin is within rounding
}

// compareFloats bounds the difference by relative times the largest expected
// magnitude. Infinities and NaN must be where they are expected.
func compareFloats(name string, got, want []float32, relative float64) stageResult {
	r := stageResult{Name: name, OK: len(got) == len(want)}
	if !r.OK {
		return r
	}
	for i := range want {
		g, w := float64(got[i]), float64(want[i])
		if !math.IsInf(w, 0) && !math.IsNaN(w) {
			r.MaxRef = max(r.MaxRef, math.Abs(w))
			if diff := math.Abs(g - w); diff <= math.MaxFloat64 {
				r.MaxAbs = max(r.MaxAbs, diff)
				continue
			}
		}
		r.OK = r.OK && (g == w || math.IsNaN(g) && math.IsNaN(w))
	}
	r.Bound = relative * r.MaxRef
	r.OK = r.OK && r.MaxAbs <= r.Bound
	return r
}

// compareCodes counts the F8_E4M3 codes that differ, which none may. With oneOff those
// beside the expected one are reported as ties: a GPU may round a key differently.
func compareCodes(name string, got, want []byte, oneOff bool) stageResult {
	r := stageResult{Name: name, MaxRef: float64(len(want)), OK: len(got) == len(want)}
	for i := 0; r.OK && i < len(want); i++ {
		apart := steps(got[i]) - steps(want[i])
		switch {
		case got[i] == want[i]:
		case oneOff && apart >= -1 && apart <= 1:
			r.Ties++
		default:
			r.MaxAbs++
		}
	}
	r.OK = r.OK && r.MaxAbs == 0
	return r
}

// steps is how many codes lie between 0 and a code.
func steps(code byte) int {
	if code&0x80 != 0 {
		return -int(code & 0x7f)
	}
	return int(code)
}

// compareInts wants equality. A row of integers that differs although its
// margin is at most tie is a tie within rounding: reported, not an error.
func compareInts(name string, got, want []int32, perMargin int, margins []float32, tie float64) stageResult {
	r := stageResult{Name: name, MaxRef: float64(len(want)), OK: len(got) == len(want)}
	for i := 0; r.OK && i < len(want); i++ {
		if got[i] == want[i] {
			continue
		}
		if i/perMargin < len(margins) && float64(margins[i/perMargin]) <= tie {
			r.Ties++
		} else {
			r.MaxAbs++
		}
	}
	r.OK = r.OK && r.MaxAbs == 0
	return r
}

// pickRows returns the given rows of values that have width entries each.
func pickRows[T any](values []T, width int, rows []int32) []T {
	out := make([]T, 0, len(rows)*width)
	for _, r := range rows {
		out = append(out, values[int(r)*width:(int(r)+1)*width]...)
	}
	return out
}
