package main

import (
	"context"
	"fmt"
	"time"

	"github.com/drafthead/drafthead/mtp"
)

const (
	// minRuns is the least number of runs of a work, unless they would take patience times
	// what it was given.
	minRuns, patience = 3, 4
	// maxRuns is enough for a median.
	maxRuns = 1001
)

// timedRun is one timed call beside a read of the machine's ceiling right before it,
// so that a machine whose speed drifts does not change their ratio.
type timedRun struct {
	input   int
	seconds float64
	ceiling float64 // bytes per second
}

// time alternates between the ceiling and the work for about the time that is set.
// The first call, which makes room for the work, counts only if there is no time
// for others. The first rank's clock is that of all.
func (b *session) time(ctx context.Context, head *mtp.Head, w *work) ([]timedRun, error) {
	var runs []timedRun
	start, budget := time.Now(), b.settings.time
	warm := false
	for len(runs) < maxRuns {
		over, err := b.rank.Agree(ctx, func() bool {
			elapsed := time.Since(start)
			return len(runs) >= minRuns && elapsed > budget || len(runs) > 0 && elapsed > patience*budget
		})
		if err != nil {
			return nil, err
		}
		if over {
			break
		}
		rate, err := b.ceiling.sample()
		if err != nil {
			return nil, err
		}
		input := len(runs) % w.variants()
		begin := time.Now()
		if err := w.run(ctx, head, input); err != nil {
			return nil, err
		}
		r := timedRun{input, time.Since(begin).Seconds(), rate}
		if !warm {
			warm, err = b.rank.Agree(ctx, func() bool { return time.Since(start) <= patience*budget/2 })
			if err != nil {
				return nil, err
			}
			if warm {
				continue
			}
		}
		runs = append(runs, r)
	}
	return runs, nil
}

// row is one line of the report. Rates are medians over the runs.
type row struct {
	Work    string  `json:"work"`
	Rows    int     `json:"rows"`    // of the call
	Context int     `json:"context"` // positions before them
	Bytes   int64   `json:"bytes"`   // that a call has to read, see model.bytes
	Seconds float64 `json:"seconds"`
	Spread  float64 `json:"spread"` // (p90 − p10) ÷ median of the seconds
	GBps    float64 `json:"gbps"`
	Ratio   float64 `json:"ratio"` // (bytes ÷ ceiling) ÷ seconds
	GFlops  float64 `json:"gflops"`

	K       int     `json:"k"`       // drafts; 0: hidden states only
	Experts float64 `json:"experts"` // different ones picked in a pass, on average
	Runs    int     `json:"runs"`
	Ceiling float64 `json:"ceiling_gbps"`

	GraphSeconds float64 `json:"graph_seconds,omitempty"` // of the device, where a call is graphs
	HostSeconds  float64 `json:"host_seconds,omitempty"`  // of a call beside it

	// ExchangeSeconds is how long the sums and gathers of a call over the ranks take by
	// themselves, with nobody to wait for.
	ExchangeSeconds float64 `json:"exchange_seconds,omitempty"`

	Error string `json:"error,omitempty"` // why there are no figures
}

// title is the work as people read it.
func (r *row) title() string {
	if r.K > 1 {
		return fmt.Sprintf("%s of %d", r.Work, r.K)
	}
	return r.Work
}

// newRow sums up the runs of a work, whose inputs move what traffic says.
func newRow(w *work, runs []timedRun, moved []traffic) row {
	var bytes, seconds, rates, ratios, flops, ceilings, experts []float64
	for _, r := range runs {
		t := &moved[r.input]
		seconds = append(seconds, r.seconds)
		ceilings = append(ceilings, r.ceiling/1e9)
		bytes = append(bytes, float64(t.bytes))
		rates = append(rates, float64(t.bytes)/r.seconds/1e9)
		ratios = append(ratios, float64(t.bytes)/r.ceiling/r.seconds)
		flops = append(flops, t.flops/r.seconds/1e9)
		experts = append(experts, float64(t.picked)/float64(max(w.k, 1)))
	}
	return row{
		Work: w.name, Rows: w.rows, Context: w.context, Bytes: int64(median(bytes)), Seconds: median(seconds), Spread: spread(seconds),
		GBps: median(rates), Ratio: median(ratios), GFlops: median(flops),
		K: w.k, Experts: mean(experts), Runs: len(runs), Ceiling: median(ceilings),
	}
}
