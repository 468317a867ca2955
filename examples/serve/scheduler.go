package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/speculate"
)

// scheduler serves choices in the order of submission, many in one ragged batch. One
// goroutine, that of run, owns the engine and everything in it.
//
//	submit ──▶ waiting ──admit──▶ running ──step, step, …──▶ kept
//	              ▲                  │                         │ their pages serve texts that
//	              └──── preempt ─────┘                         ▼ begin alike, until they are needed
//
// A step is one Draft of the head and one pass of the target over all running texts: some
// write, others run a piece of their prompt beside them.
type scheduler struct {
	engine *speculate.Engine
	most   int // choices that run at a time
	queue  int // choices that wait, at most
	rows   int // of prompts in one pass

	positions int // of the model
	counts    *counters
	log       *slog.Logger

	mu      sync.Mutex // for waiting and ending
	waiting []*choice
	ending  bool // no more is taken
	wake    chan struct{}

	running    []*choice         // the oldest first
	kept       []*speculate.Text // finished, the oldest first
	runningNow atomic.Int64      // len(running), for metrics
}

var (
	errQueueFull = errors.New("too many requests are waiting")
	errEnding    = errors.New("the scheduler takes no more requests")
	errStopping  = errors.New("the server is stopping")
)

// submit queues the choices of a request, all or none.
func (s *scheduler) submit(choices ...*choice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending:
		return errEnding
	case len(s.waiting)+len(choices) > s.queue:
		return errQueueFull
	}
	s.waiting = append(s.waiting, choices...)
	s.signal()
	return nil
}

// end lets run return when all choices that were submitted are done.
func (s *scheduler) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
	s.signal()
}

// hand ends the scheduler, and lets another that has just begun take the choices that have
// not: they need not wait for memory that this one holds, nor this one live for them.
func (s *scheduler) hand(to *scheduler) {
	s.mu.Lock()
	s.ending = true
	var begun, others []*choice
	for _, c := range s.waiting {
		if c.started || c.text.Most > to.positions {
			begun = append(begun, c)
		} else {
			others = append(others, c)
		}
	}
	s.waiting = begun
	s.signal()
	s.mu.Unlock()
	to.mu.Lock()
	defer to.mu.Unlock()
	to.waiting = append(others, to.waiting...)
	to.signal()
}

func (s *scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake, or will be
	}
}

// run serves until end, or until ctx ends, which fails what is under way. It gives all pages
// back.
func (s *scheduler) run(ctx context.Context) error {
	for s.next(ctx) {
		if err := s.step(ctx); err != nil {
			if ctx.Err() != nil {
				break
			}
			s.log.Error("step", "error", err, "failed", len(s.running))
			s.fail(s.running, err)
			s.setRunning(nil)
			continue
		}
		s.deliver()
	}
	s.mu.Lock()
	s.ending = true
	left := append(s.running, s.waiting...)
	s.waiting = nil
	s.mu.Unlock()
	s.fail(left, errStopping)
	s.setRunning(nil)
	for len(s.kept) > 0 {
		s.dropKept()
	}
	return s.engine.Close()
}

// next waits for something to run, and reports whether there is.
func (s *scheduler) next(ctx context.Context) bool {
	for {
		s.sweep()
		s.admit()
		if ctx.Err() != nil {
			return false
		}
		if len(s.running) > 0 {
			return true
		}
		s.mu.Lock()
		over := s.ending && len(s.waiting) == 0
		s.mu.Unlock()
		if over {
			return false
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
}

// sweep takes choices out whose clients have gone away.
func (s *scheduler) sweep() {
	gone := func(c *choice) bool {
		if c.ctx.Err() == nil {
			return false
		}
		s.counts.finished("abort")
		s.fail([]*choice{c}, c.ctx.Err())
		return true
	}
	s.setRunning(slices.DeleteFunc(s.running, gone))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, gone)
}

// admit starts choices while there is room for their prompts and a chain. One waits if
// another is running a prompt that begins alike: a few steps later it can share the pages.
func (s *scheduler) admit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i < len(s.waiting) && len(s.running) < s.most; {
		c := s.waiting[i]
		from, common := s.alike(c.text)
		ready := 0
		if from != nil {
			if ready = min(common, from.Ran()); common-ready > s.pageSize() {
				i++
				continue
			}
		}
		if need := s.pages(c.text) - ready/s.pageSize(); !s.makeRoom(need, from) && len(s.running) > 0 {
			return
		}
		s.start(c, from)
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.setRunning(append(s.running, c))
	}
}

// start lets a choice begin with the rows of a text that begins alike.
func (s *scheduler) start(c *choice, from *speculate.Text) {
	if !c.started {
		c.started = true
		s.counts.prompt.Add(int64(c.promptLen))
	}
	s.counts.prefixQueries.Add(int64(len(c.text.Tokens)))
	if from == nil {
		return
	}
	rows, err := s.engine.Share(c.text, from)
	if err != nil {
		s.log.Warn("prefix not shared", "error", err) // it runs from its beginning
	}
	s.counts.prefixHits.Add(int64(rows))
}

// alike finds the text that has most tokens in common with another at the beginning, of
// those that are worth sharing: at least a page.
func (s *scheduler) alike(t *speculate.Text) (best *speculate.Text, common int) {
	consider := func(with *speculate.Text, most int) {
		if n := min(t.Common(with), most); n > common && n >= s.pageSize() {
			best, common = with, n
		}
	}
	for _, k := range s.kept {
		consider(k, min(len(t.Tokens)-1, k.Ran())) // it gets no further
	}
	for _, c := range s.running {
		consider(c.text, len(t.Tokens)-1)
	}
	return best, common
}

func (s *scheduler) pageSize() int { return s.engine.Target.Config.Attention.BlockSize }

// pages is how many a text needs for the tokens it has and a chain after them.
func (s *scheduler) pages(t *speculate.Text) int {
	return (len(t.Tokens)+t.Drafts)/s.pageSize() + 1
}

// makeRoom reports whether so many pages are free besides those that running texts will take
// soon: for their prompts, and one more each. It gives up kept texts, the oldest first, but not the one to share with.
func (s *scheduler) makeRoom(need int, except *speculate.Text) bool {
	for _, c := range s.running {
		need += 1 + max(0, s.pages(c.text)-(c.text.Ran()+s.pageSize()-1)/s.pageSize())
	}
	for s.free() < need {
		i := slices.IndexFunc(s.kept, func(t *speculate.Text) bool { return t != except })
		if i < 0 {
			return false
		}
		s.release(s.kept[i])
		s.kept = slices.Delete(s.kept, i, i+1)
	}
	return true
}

func (s *scheduler) free() int {
	return min(s.engine.Target.Cache.FreePages(), s.engine.Cache.FreePages())
}

// step does one step of the engine. A full cache costs kept texts first, and then the text
// that was started last: it runs again from its tokens, of which none is lost.
func (s *scheduler) step(ctx context.Context) error {
	for {
		texts := make([]*speculate.Text, len(s.running))
		prompts, drafts := 0, 0
		for i, c := range s.running {
			drafts = c.text.Drafts // of every text
			if texts[i] = c.text; c.text.Ran() < len(c.text.Tokens)-1 {
				prompts++
			}
		}
		s.engine.Chunk = max(drafts+1, s.rows/max(1, prompts))
		err := s.engine.Step(ctx, texts)
		switch {
		case !errors.Is(err, attention.ErrCacheFull):
			return err
		case len(s.kept) > 0:
			s.dropKept()
		case len(s.running) > 1:
			s.preempt()
		default:
			return err
		}
	}
}

func (s *scheduler) preempt() {
	last := len(s.running) - 1
	c := s.running[last]
	s.setRunning(s.running[:last])
	s.release(c.text)
	s.counts.preemptions.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.Insert(s.waiting, 0, c)
}

// deliver hands on what the step wrote, and keeps the texts that are complete for those that
// begin alike.
func (s *scheduler) deliver() {
	s.setRunning(slices.DeleteFunc(s.running, func(c *choice) bool {
		reason := c.deliver(s.counts.wrote)
		if reason == "" {
			return false
		}
		if reason == reasonError {
			s.release(c.text)
		} else if s.kept = append(s.kept, c.text); len(s.kept) > s.most {
			s.dropKept()
		}
		return true
	}))
}

// dropKept gives up the oldest kept text.
func (s *scheduler) dropKept() {
	s.release(s.kept[0])
	s.kept = slices.Delete(s.kept, 0, 1)
}

// fail ends choices with an error.
func (s *scheduler) fail(choices []*choice, err error) {
	for _, c := range choices {
		s.release(c.text)
		c.fail(err)
	}
}

func (s *scheduler) release(t *speculate.Text) {
	if err := s.engine.Release(t); err != nil {
		s.log.Error("pages not given back", "error", err)
	}
}

func (s *scheduler) setRunning(running []*choice) {
	s.running = running
	s.runningNow.Store(int64(len(running)))
}

// waitingNow is how many choices wait.
func (s *scheduler) waitingNow() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}
