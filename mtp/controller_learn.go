package mtp

import (
	"math"
	"slices"
)

// acceptance counts how often each draft of a chain was accepted once those before it were.
// Older chains count less: by a factor of e after memory chains.
type acceptance struct {
	memory   float64
	accepted []float64 // by place in the chain
	tried    []float64
}

// add counts a chain of which accepted drafts were accepted and the next, if there is one,
// was not. A place that was not tried forgets too, though slower: an estimate that keeps a
// chain short must not last because it does.
func (a *acceptance) add(drafted, accepted int) {
	drafted = max(drafted, 0)
	accepted = min(max(accepted, 0), drafted)
	for j := range a.tried {
		keep := math.Exp(-1 / a.memory)
		if j > min(drafted-1, accepted) {
			keep = math.Exp(-1 / (8 * a.memory))
		}
		a.accepted[j] *= keep
		a.tried[j] *= keep
	}
	for j := range min(drafted, accepted+1) {
		if j == len(a.tried) {
			a.accepted, a.tried = append(a.accepted, 0), append(a.tried, 0)
		}
		a.tried[j]++
		if j < accepted {
			a.accepted[j]++
		}
	}
}

const (
	firstRate   = 0.7 // of a draft of which nothing is known
	priorChains = 4   // that what is known otherwise counts for
)

// rates estimates, for each of n places, the probability that its draft is accepted once
// those before it were. What is known beside the counts is a rate for each place: that of
// all requests, moved as the place before differs from its own; without others, that of the
// place before.
func (a *acceptance) rates(n int, others []float64) []float64 {
	rates := make([]float64, n)
	for j := range rates {
		prior := firstRate
		switch {
		case others != nil && j > 0:
			prior = min(max(0.01, others[j]+rates[j-1]-others[j-1]), 0.99)
		case others != nil:
			prior = others[j]
		case j > 0:
			prior = rates[j-1]
		}
		rates[j] = prior
		if j < len(a.tried) {
			rates[j] = (a.accepted[j] + priorChains*prior) / (a.tried[j] + priorChains)
		}
	}
	return rates
}

// survival returns the products of rates from the first on.
func survival(rates []float64) []float64 {
	p := 1.0
	for j := range rates {
		p *= rates[j]
		rates[j] = p
	}
	return rates
}

// costs estimates seconds by size. Sizes from 8 on share a bucket with their neighbors,
// 8 buckets for each power of two. Each keeps its last reports, of which the median counts,
// so that a first call or a pause of the machine does not. How far a median lies off the line
// through all counts as far as that is more than reports of one size differ: else a size that
// was reported at a quiet time would look cheap.
type costs struct {
	buckets []costBucket // by ascending size
	reports int
}

type costBucket struct {
	size   int
	recent [15]float64
	count  int
	last   int     // report
	median float64 // of recent
	spread float64 // of recent, relative: half of them lie within so much around the median; 0: unknown
	value  float64 // that counts
}

// known is how many reports the bucket keeps.
func (b *costBucket) known() int { return min(b.count, len(b.recent)) }

// lifetime is how many reports of other sizes a bucket outlives. What it says may have
// changed, and as long as it looks expensive nothing would correct it.
const lifetime = 500

func (c *costs) add(size int, seconds float64) {
	if size < 1 || !(seconds >= 0) {
		return
	}
	size = bucketOf(size)
	i, found := slices.BinarySearchFunc(c.buckets, size, func(b costBucket, size int) int { return b.size - size })
	if !found {
		c.buckets = slices.Insert(c.buckets, i, costBucket{size: size})
	}
	b := &c.buckets[i]
	b.recent[b.count%len(b.recent)] = seconds
	b.count++
	sorted := b.recent
	known := sorted[:b.known()]
	slices.Sort(known)
	b.median = known[(len(known)-1)/2]
	if n := len(known); n >= 4 && b.median > 0 {
		b.spread = (known[n-1-n/4] - known[n/4]) / 2 / b.median
	}
	c.reports++
	b.last = c.reports
	c.buckets = slices.DeleteFunc(c.buckets, func(b costBucket) bool { return b.last < c.reports-lifetime })
	c.smooth()
}

// smooth sets what the buckets' values are: line + off · off² / (off² + error²), off being
// median − line. The line is the one of least squares, relative to the medians. The error is
// the spread of all buckets: what slows a machine down lasts for many reports, so that a
// median of them is not much surer than one.
func (c *costs) smooth() {
	var n, sizes, times, squares, products, spreads, spread float64
	for i := range c.buckets {
		b := &c.buckets[i]
		w, size := float64(b.known())/max(tiny, b.median*b.median), float64(b.size)
		n, sizes, times = n+w, sizes+w*size, times+w*b.median
		squares, products = squares+w*size*size, products+w*size*b.median
		if b.spread > 0 {
			spreads, spread = spreads+float64(b.known()), spread+float64(b.known())*b.spread
		}
	}
	rise := 0.0
	if d := n*squares - sizes*sizes; d > 0 {
		rise = max(0, (n*products-sizes*times)/d)
	}
	first := (times - rise*sizes) / n
	for i := range c.buckets {
		b := &c.buckets[i]
		b.value = b.median
		if line := first + rise*float64(b.size); line > 0 && spreads > 0 {
			off, e := b.median-line, spread/spreads*b.median
			if off != 0 {
				b.value = line + off*(off*off/(off*off+e*e))
			}
		}
	}
}

func bucketOf(size int) int {
	granule := 1
	for size/granule >= 16 {
		granule *= 2
	}
	return size / granule * granule
}

// of returns the seconds of a size. Between two known sizes it is in proportion. Beyond
// them it follows the line through the outermost two that are a factor of 1.5 apart, but
// never falls with the size, nor faster than the size. Nothing known is 0.
func (c *costs) of(size int) float64 {
	b := c.buckets
	if len(b) == 0 {
		return 0
	}
	i, found := slices.BinarySearchFunc(b, size, func(b costBucket, size int) int { return b.size - size })
	switch {
	case found:
		return b[i].value
	case i == 0:
		for j := range b {
			if 2*b[j].size >= 3*b[0].size {
				return max(b[0].value-slope(&b[0], &b[j])*float64(b[0].size-size), b[0].value*float64(size)/float64(b[0].size))
			}
		}
		return b[0].value
	case i == len(b):
		last := &b[len(b)-1]
		for j := len(b) - 2; j >= 0; j-- {
			if 3*b[j].size <= 2*last.size {
				return last.value + slope(&b[j], last)*float64(size-last.size)
			}
		}
		return last.value
	}
	return b[i-1].value + (b[i].value-b[i-1].value)*float64(size-b[i-1].size)/float64(b[i].size-b[i-1].size)
}

// slope is the seconds that one more costs between two sizes, and at least 0.
func slope(low, high *costBucket) float64 {
	return max(0, (high.value-low.value)/float64(high.size-low.size))
}
