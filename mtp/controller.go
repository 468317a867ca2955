package mtp

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Controller chooses how many tokens to draft for each sequence, so that the most tokens a
// second are committed. It learns from what the engine reports: which drafts were accepted,
// and how long drafting and the target took. It needs no tuning, follows changes within
// some tens of steps, and drafts nothing where drafting does not pay.
//
//	lengths := controller.Lengths(requests...)           // Rows.Drafts of each
//	drafts, err := head.Draft(ctx, batch)
//	controller.ReportDraft(lengths, draftTime)
//	…                                                    // the target runs rows positions
//	controller.ReportTarget(rows, targetTime)
//	controller.ReportAccepted(requests[i], len(drafts[i].Tokens), accepted)
//
// It chooses the lengths k that are expected to be best,
//
//	tokens  = Σ over sequences ( 1 + Σ over j < k of the probability that drafts 0 … j are accepted )
//	seconds = Σ over steps j   ( a draft step of the sequences with k > j ) + the target over Σ ( k + 1 ) rows
//	lengths = those with the most tokens / seconds; none if they lead by less than 3 %
//
// and now and then drafts one token where it would draft none, for 1 % of the time, to
// notice when that changes.
//
// The zero Controller is not ready; [NewController] makes one. Its methods may be called
// from several goroutines.
type Controller struct {
	mu                sync.Mutex
	most              int
	warmUp            int        // calls of Lengths that were made to learn costs
	warm              bool       // these are over
	idle              int        // calls of Lengths since one with a draft
	probes            int        // of requests that draft nothing otherwise
	paid              bool       // the last probe did
	drafted, accepted int        // since the last call of Lengths
	pooled            acceptance // of all requests
	drafts            costs      // of a draft step, by sequences in it
	target            costs      // of a pass of the target, by rows
	commit            costs      // of a Draft that drafts nothing, by sequences
}

// Acceptance is what a [Controller] knows of one request. The zero Acceptance is a request
// that begins. It belongs to one controller, which guards it.
type Acceptance struct {
	own  acceptance
	idle int  // steps without a draft since the last that had one
	won  bool // all drafts of the last chain were accepted
}

// NewController returns a controller of chains of at most most drafts.
func NewController(most int) *Controller {
	return &Controller{most: min(max(0, most), maxDraft), pooled: acceptance{memory: 128}}
}

// ReportDraft reports that a Draft of chains of these lengths, one for each sequence of
// the batch, took so long. Lengths that are all 0 are what the head costs where nothing is
// drafted. An engine may let rows wait instead until something is, and report nothing of
// those that it then gives the head beforehand.
func (c *Controller) ReportDraft(lengths []int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	counts := drafting(lengths)
	if len(counts) == 0 {
		c.commit.add(len(lengths), took.Seconds())
		return
	}
	// What each step took is not known. The estimates say how they share the time.
	expected := 0.0
	for _, n := range counts {
		expected += c.drafts.of(n)
	}
	for i, n := range counts {
		share := took.Seconds() / float64(len(counts))
		if expected > 0 {
			share = took.Seconds() * c.drafts.of(n) / expected
		}
		if i == 0 || n != counts[i-1] { // a call counts once for each number of sequences
			c.drafts.add(n, share)
		}
	}
}

// ReportTarget reports that a pass of the target over so many rows, those of drafts and of
// the tokens before them, took so long. Passes with rows of a prompt tell nothing of
// drafting; leave them out.
func (c *Controller) ReportTarget(rows int, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.target.add(rows, took.Seconds())
}

// ReportAccepted reports how many of a request's drafts the target accepted. It comes after
// each step of the request, also after one without drafts.
func (c *Controller) ReportAccepted(a *Acceptance, drafted, accepted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.own.memory = 24
	a.own.add(drafted, accepted)
	if drafted == 0 {
		a.idle++
		return
	}
	c.drafted, c.accepted = c.drafted+drafted, c.accepted+accepted
	a.idle, a.won = 0, accepted >= drafted
	c.pooled.add(drafted, accepted)
}

// Lengths returns how many tokens to draft for each of the requests of a batch. The first
// calls try lengths of 0, 1, 2, 4 and so on, to learn what they cost.
func (c *Controller) Lengths(requests ...*Acceptance) []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most == 0 || len(requests) == 0 {
		return make([]int, len(requests))
	}
	pooled := c.pooled.rates(c.most, nil)
	accepted := make([][]float64, len(requests)) // by request and draft: the probability that it is accepted
	for i, a := range requests {
		accepted[i] = survival(a.own.rates(c.most, pooled))
	}
	lengths := c.best(accepted)
	if k := c.try(slices.Max(lengths)); k >= 0 {
		return slices.Repeat([]int{k}, len(requests))
	}
	c.probe(lengths, requests, accepted)
	return lengths
}

// probe gives one draft to requests that had none for a while; accepted are the probabilities
// of [Controller.best]. Where nothing is drafted, that costs 1 % of the time, but happens at
// least every 64 calls. If the target then accepts so many drafts that they pay, it probes
// again soon.
func (c *Controller) probe(lengths []int, requests []*Acceptance, accepted [][]float64) {
	if slices.Max(lengths) > 0 {
		c.idle, c.drafted, c.accepted = 0, 0, 0
		for i, a := range requests {
			if lengths[i] == 0 && (a.idle >= 16 || a.won) {
				lengths[i] = 1
			}
		}
		return
	}
	n := len(requests)
	plain := c.commit.of(n) + c.target.of(n) // seconds of a step without drafts
	more := func(drafts int) float64 { return c.drafts.of(drafts) + c.target.of(n+drafts) - plain }
	// All probe, if that costs hardly more than one.
	drafts := 1
	if more(n) < 2*more(1) {
		drafts = n
	}
	first := 0.0 // of how many first drafts of all requests are expected to be accepted
	for _, p := range accepted {
		first += p[0]
	}
	loses := more(drafts) - plain*first/float64(n)*float64(drafts)/float64(n)
	paid := float64(c.accepted)/float64(n)*plain > more(min(max(1, c.drafted), n))
	if c.drafted > 0 {
		c.paid = paid
	}
	c.drafted, c.accepted = 0, 0
	wait := patience(plain, loses)
	switch {
	case c.paid && drafts == n:
		wait = 1
	case c.paid: // a single draft says little
		wait = min(wait, 4)
	}
	if c.idle++; c.idle < wait {
		return
	}
	c.idle, c.paid = 0, false
	c.probes++
	for i := range lengths {
		lengths[i] = 1
	}
	if drafts < n {
		clear(lengths)
		lengths[c.prober(requests)] = 1
	}
}

// prober is the request that probes alone: mostly the one that did so last, whose rows the
// head has seen but for a few, and in turn the one that has waited longest.
func (c *Controller) prober(requests []*Acceptance) (best int) {
	for i, a := range requests {
		if c.probes%4 > 0 && a.idle < requests[best].idle || c.probes%4 == 0 && a.idle > requests[best].idle {
			best = i
		}
	}
	return best
}

// patience is the number of calls without drafts, of so many seconds each, after which
// drafting is tried again, if that loses so many seconds.
func patience(plain, loses float64) int {
	if plain == 0 {
		return 8
	}
	return int(min(max(8, 100*loses/plain), 64))
}

// try returns the length of the next call that is made to learn costs, or −1. It goes no
// further than twice the longest chain that looks best.
func (c *Controller) try(longest int) int {
	const repeats = 2 // the first call of a size may be slow
	k := (1 << (c.warmUp / repeats)) / 2
	if c.warm = c.warm || k >= 2*c.most || k > 2*longest+1; c.warm {
		return -1
	}
	c.warmUp++
	return min(k, c.most)
}

// best returns the lengths of the most tokens per second, given the probability that each
// draft of each sequence is accepted. A step costs much and one more sequence in it little,
// so it looks at each number of steps by itself: drafts within them are added one by one,
// the most probable first, and the best number of them counts.
func (c *Controller) best(accepted [][]float64) []int {
	n := len(accepted)
	type draft struct{ sequence, step int }
	order := make([]draft, 0, n*c.most)
	for i := range accepted {
		for step := range c.most {
			order = append(order, draft{i, step})
		}
	}
	slices.SortStableFunc(order, func(a, b draft) int {
		return cmp.Compare(accepted[b.sequence][b.step], accepted[a.sequence][a.step])
	})
	steps := make([]float64, n+1) // what a draft step of so many sequences takes
	for i := 1; i <= n; i++ {
		steps[i] = c.drafts.of(i)
	}
	passes := make([]float64, n*c.most+1) // what the target takes for so many drafts
	for i := range passes {
		passes[i] = c.target.of(n + i)
	}

	best, highest := make([]int, n), worthwhile*float64(n)/(c.commit.of(n)+passes[0]+tiny)
	lengths, sequences := make([]int, n), make([]int, c.most)
	for most := 1; most <= c.most; most++ {
		clear(lengths)
		clear(sequences)
		tokens, seconds, drafts := float64(n), 0.0, 0
		for _, d := range order {
			if d.step >= most {
				continue
			}
			k := &sequences[d.step]
			seconds += steps[*k+1] - steps[*k]
			*k++
			tokens += accepted[d.sequence][d.step]
			lengths[d.sequence]++
			drafts++
			if rate := tokens / (seconds + passes[drafts] + tiny); rate > highest {
				highest = rate
				copy(best, lengths)
			}
		}
	}
	return best
}

const (
	tiny       = 1e-12 // keeps a rate finite before costs are known
	worthwhile = 1.03  // of the rate without drafts: a lead that is smaller may be luck
)

// drafting returns how many sequences draft in each step.
func drafting(lengths []int) []int {
	var counts []int
	for _, k := range lengths {
		for step := range k {
			if step == len(counts) {
				counts = append(counts, 0)
			}
			counts[step]++
		}
	}
	return counts
}
