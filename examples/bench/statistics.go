package main

import (
	"math"
	"slices"
)

// quantile returns the value below which the share q of the values lies,
// interpolated between neighbors; NaN of no values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (sorted[high]-sorted[low])*(at-float64(low))
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// spread returns (p90 − p10) ÷ median.
func spread(values []float64) float64 {
	return (quantile(values, 0.9) - quantile(values, 0.1)) / median(values)
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
