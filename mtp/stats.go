package mtp

import (
	"sync"
	"sync/atomic"
)

// Stats counts what a head has done since Load. Counters only grow.
//
// A chain counts once its verdict is known: when the next Draft of the same sequence begins
// where the chain did. Tokens that it confirms were accepted, up to the last token of the
// new rows, which the target chose. So a chain that nothing follows does not count, nor
// one after which the sequence was truncated, swapped or forked. Block tables are the same
// sequence if the page of the last confirmed row is the same.
//
// The names are those of vLLM's metrics, which begin with vllm:spec_decode_:
//
//	num_drafts                                NumDrafts
//	num_draft_tokens                          NumDraftTokens
//	num_accepted_tokens                       NumAcceptedTokens
//	num_accepted_tokens_per_pos{position=i}   NumAcceptedTokensPerPos[i]
//
//	acceptance rate                   = NumAcceptedTokens / NumDraftTokens
//	mean acceptance length            = 1 + NumAcceptedTokens / NumDrafts
//	acceptance rate at position i     = NumAcceptedTokensPerPos[i] / NumDraftTokensPerPos[i]
type Stats struct {
	NumDrafts         int64 // chains with at least one draft
	NumDraftTokens    int64
	NumAcceptedTokens int64

	// By place in the chain, from 0 on, up to the longest chain: drafts, and accepted ones.
	// NumDraftTokensPerPos[i] − NumDraftTokensPerPos[i+1] chains had i+1 drafts.
	NumDraftTokensPerPos, NumAcceptedTokensPerPos []int64

	NumRows      int64 // confirmed rows that Draft and Forward committed
	NumCacheFull int64 // calls refused for want of pages, after which engines preempt
	NumNaN       int64 // chains that ended with a probability that is not a number

	Pages, FreePages int // of all caches
	Memory           Memory
}

// counters is what Stats is made of.
type counters struct {
	rows, cacheFull, nan atomic.Int64

	mu                sync.Mutex
	drafts            int64
	drafted, accepted [maxDraft]int64 // by place in the chain
}

// Stats returns what the head has done so far. It costs little; a closed head has none.
func (h *Head) Stats() Stats {
	memory := h.Memory()
	h.using.RLock()
	defer h.using.RUnlock()
	if h.closed {
		return Stats{}
	}
	c := &h.counters
	s := Stats{NumRows: c.rows.Load(), NumCacheFull: c.cacheFull.Load(), NumNaN: c.nan.Load(), Memory: memory}
	h.mu.Lock()
	for cache := range h.caches {
		s.Pages += cache.Pages()
		s.FreePages += cache.FreePages()
	}
	h.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	s.NumDrafts = c.drafts
	for i, n := range c.drafted {
		if n == 0 {
			break
		}
		s.NumDraftTokens += n
		s.NumAcceptedTokens += c.accepted[i]
		s.NumDraftTokensPerPos = append(s.NumDraftTokensPerPos, n)
		s.NumAcceptedTokensPerPos = append(s.NumAcceptedTokensPerPos, c.accepted[i])
	}
	return s
}

// add counts a chain.
func (c *counters) add(drafted, accepted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drafts++
	for i := range drafted {
		c.drafted[i]++
		if i < accepted {
			c.accepted[i]++
		}
	}
}

// drafted is the last chain of a sequence, until its verdict: the position after the
// confirmed rows, and the drafts that follow.
type drafted struct {
	position int
	tokens   []int32
}

// judge counts the chain if rows of these tokens follow it. They may begin before it.
func (c *counters) judge(d *drafted, position int, tokens []int32) {
	before := d.position - position
	if len(d.tokens) == 0 || before < 0 || before >= len(tokens) {
		return
	}
	tokens = tokens[before:]
	accepted := 0
	for accepted < min(len(d.tokens), len(tokens)-1) && d.tokens[accepted] == tokens[accepted] {
		accepted++
	}
	c.add(len(d.tokens), accepted)
}

// count counts a Draft that succeeded: its rows, the chains that they judge, and the new
// chains that wait for a verdict.
func (c *chain) count() {
	counters := &c.head.counters
	counters.rows.Add(int64(c.rows))
	for i := range c.batch.Sequences {
		r, d := &c.batch.Sequences[i], &c.drafts[i]
		if d.Err != nil {
			counters.nan.Add(1)
		}
		var last *drafted
		if r.Sequence != nil {
			last = &r.Sequence.drafted
		} else {
			last = c.cache.waiting.of(r, c.head.config.Attention.BlockSize)
		}
		counters.judge(last, r.Position, r.Tokens)
		last.position, last.tokens = r.Position+len(r.Tokens), append(last.tokens[:0], d.Tokens...)
		if r.Sequence == nil {
			c.cache.waiting.put(r, last, c.head.config.Attention.BlockSize)
		}
	}
}

// waiting holds the last chains of sequences with block tables, by the page of the last
// confirmed row: only one sequence writes to it.
type waiting struct {
	mu     sync.Mutex
	chains map[int32]*drafted
}

// of takes the chain that these rows may follow, or a new one.
func (w *waiting) of(r *Rows, size int) *drafted {
	w.mu.Lock()
	defer w.mu.Unlock()
	for block := max(0, r.Position-1) / size; block <= (r.Position+len(r.Tokens)-1)/size; block++ {
		if d := w.chains[r.BlockTable[block]]; d != nil {
			delete(w.chains, r.BlockTable[block])
			return d
		}
	}
	return &drafted{}
}

func (w *waiting) put(r *Rows, d *drafted, size int) {
	if len(d.tokens) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.chains == nil {
		w.chains = make(map[int32]*drafted)
	}
	w.chains[r.BlockTable[(d.position-1)/size]] = d
}
