package main

import "math"

// difference is the mean of paired differences, with a 99 % interval.
type difference struct {
	Mean float64 `json:"mean"`
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// ToldApart: the interval excludes 0.
	ToldApart bool `json:"told_apart"`
}

// leastBlocks is how many blocks an interval is drawn from, at least.
const leastBlocks = 8

// paired compares two ways to draft, place by place: a and b hold a value for each place of
// each trace. Places of one trace depend on each other, so the interval comes from the
// spread between blocks: the traces, or, if they are fewer than leastBlocks, equal parts of
// them. It is Student's, with one degree of freedom less than there are blocks. With fewer
// blocks nothing is told apart, and the interval is the mean alone.
func paired(a, b [][]float64) difference {
	parts := 1
	if len(a) > 0 {
		parts = (leastBlocks + len(a) - 1) / len(a)
	}
	var sums, sizes []float64
	total, places := 0.0, 0.0
	for t := range a {
		for p := range parts {
			from, to := p*len(a[t])/parts, (p+1)*len(a[t])/parts
			if from == to {
				continue
			}
			sum := 0.0
			for i := from; i < to; i++ {
				sum += a[t][i] - b[t][i]
			}
			sums, sizes = append(sums, sum), append(sizes, float64(to-from))
			total, places = total+sum, places+float64(to-from)
		}
	}
	if places == 0 {
		return difference{}
	}
	mean := total / places
	d := difference{Mean: mean, Low: mean, High: mean}
	blocks := float64(len(sums))
	if len(sums) < leastBlocks {
		return d
	}
	squares := 0.0
	for i, sum := range sums {
		off := sum - mean*sizes[i]
		squares += off * off
	}
	half := student99(blocks-1) * math.Sqrt(blocks/(blocks-1)*squares) / places
	d.Low, d.High = mean-half, mean+half
	d.ToldApart = d.Low > 0 || d.High < 0
	return d
}

// student99 returns the quantile of Student's distribution within which 99 % lie on both
// sides, by its expansion in 1/freedom: within 0.2 % from 7 degrees of freedom on.
func student99(freedom float64) float64 {
	const z = 2.5758293
	const z2 = z * z
	return z * (1 + (z2+1)/(4*freedom) +
		((5*z2+16)*z2+3)/(96*freedom*freedom) +
		(((3*z2+19)*z2+17)*z2-15)/(384*freedom*freedom*freedom))
}
