package main

import (
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/drafthead/drafthead/mtp"
)

// counters are what the server counts over all its models. They only grow.
type counters struct {
	prompt, generated         atomic.Int64 // tokens
	preemptions               atomic.Int64
	prefixQueries, prefixHits atomic.Int64 // tokens
	latency, firstToken       prometheus.Histogram
	mu                        sync.Mutex
	reasons                   map[string]int64
	retired                   mtp.Stats // of the heads that are closed
}

func newCounters() *counters {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.001, 2, 17)})
	}
	return &counters{
		reasons:    map[string]int64{reasonStop: 0, reasonLength: 0, "abort": 0, reasonError: 0},
		latency:    histogram("vllm:e2e_request_latency_seconds", "Time from a request to the end of its answer."),
		firstToken: histogram("vllm:time_to_first_token_seconds", "Time from a streamed request to its first piece."),
	}
}

// wrote counts tokens of a choice, and the choice if it has ended for a reason.
func (c *counters) wrote(tokens int, reason string) {
	c.generated.Add(int64(tokens))
	if reason != "" {
		c.finished(reason)
	}
}

// finished counts a choice that has ended.
func (c *counters) finished(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reasons[reason]++
}

// retire keeps the counts of a head that closes.
func (c *counters) retire(s mtp.Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = sum(c.retired, s)
}

// sum adds the counts of two heads.
func sum(a, b mtp.Stats) mtp.Stats {
	positions := func(a, b []int64) []int64 {
		out := make([]int64, max(len(a), len(b)))
		for i := range out {
			if i < len(a) {
				out[i] += a[i]
			}
			if i < len(b) {
				out[i] += b[i]
			}
		}
		return out
	}
	a.NumDrafts += b.NumDrafts
	a.NumDraftTokens += b.NumDraftTokens
	a.NumAcceptedTokens += b.NumAcceptedTokens
	a.NumDraftTokensPerPos = positions(a.NumDraftTokensPerPos, b.NumDraftTokensPerPos)
	a.NumAcceptedTokensPerPos = positions(a.NumAcceptedTokensPerPos, b.NumAcceptedTokensPerPos)
	return a
}

// collector gives Prometheus what the server and its heads have counted.
type collector struct{ *server }

// Describe sends nothing: the positions of drafts are not known beforehand.
func (collector) Describe(chan<- *prometheus.Desc) {}

func (c collector) Collect(out chan<- prometheus.Metric) {
	metric := func(kind prometheus.ValueType, name, help string, value float64, label ...string) {
		var names, values []string
		if len(label) > 0 {
			names, values = label[:1], label[1:]
		}
		out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
	}
	counter := func(name, help string, value int64, label ...string) {
		metric(prometheus.CounterValue, name, help, float64(value), label...)
	}
	gauge := func(name, help string, value float64, label ...string) {
		metric(prometheus.GaugeValue, name, help, value, label...)
	}
	c.mu.Lock()
	n := c.counts
	n.mu.Lock()
	stats := n.retired
	for reason, count := range n.reasons {
		counter("vllm:request_success_total", "Texts that have ended, by reason.", count, "finished_reason", reason)
	}
	n.mu.Unlock()
	var running, waiting, pages, free float64
	var memory mtp.Memory
	for _, m := range c.models {
		stats = sum(stats, m.head.Stats())
		running += float64(m.scheduler.runningNow.Load())
		waiting += float64(m.scheduler.waitingNow())
		for _, cache := range []interface {
			Pages() int
			FreePages() int
		}{m.target.Cache, m.scheduler.engine.Cache} {
			pages, free = pages+float64(cache.Pages()), free+float64(cache.FreePages())
		}
		used := m.head.Memory()
		memory.Weights, memory.Workspaces = memory.Weights+used.Weights, memory.Workspaces+used.Workspaces
		memory.Caches += used.Caches + m.target.Cache.Bytes()
	}
	c.mu.Unlock()

	counter("vllm:spec_decode_num_drafts_total", "Chains of drafts.", stats.NumDrafts)
	counter("vllm:spec_decode_num_draft_tokens_total", "Drafted tokens.", stats.NumDraftTokens)
	counter("vllm:spec_decode_num_accepted_tokens_total", "Accepted drafts.", stats.NumAcceptedTokens)
	for i, count := range stats.NumAcceptedTokensPerPos {
		counter("vllm:spec_decode_num_accepted_tokens_per_pos_total", "Accepted drafts by place in the chain.", count, "position", strconv.Itoa(i))
	}
	gauge("vllm:num_requests_running", "Texts that are being written.", running)
	gauge("vllm:num_requests_waiting", "Texts that wait.", waiting)
	counter("vllm:prompt_tokens_total", "Tokens of prompts.", n.prompt.Load())
	counter("vllm:generation_tokens_total", "Tokens that were written.", n.generated.Load())
	counter("vllm:num_preemptions_total", "Texts that gave their pages to older ones.", n.preemptions.Load())
	counter("vllm:prefix_cache_queries_total", "Tokens of texts that were started.", n.prefixQueries.Load())
	counter("vllm:prefix_cache_hits_total", "Tokens of them that were shared.", n.prefixHits.Load())
	gauge("vllm:kv_cache_usage_perc", "Share of the pages that are used, 0 to 1; those kept for texts that begin alike too.", (pages-free)/max(1, pages))
	gauge("drafthead:memory_bytes", "Memory of the head, and of both caches.", float64(memory.Weights), "kind", "weights")
	gauge("drafthead:memory_bytes", "Memory of the head, and of both caches.", float64(memory.Caches), "kind", "caches")
	gauge("drafthead:memory_bytes", "Memory of the head, and of both caches.", float64(memory.Workspaces), "kind", "workspaces")
}
