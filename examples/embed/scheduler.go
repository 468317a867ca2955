package main

import (
	"context"
	"errors"
	"slices"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/mtp"
)

// target is what a scheduler needs of the target model for one request: the hidden
// states are those after its final norm, a row of hidden_size for each position.
type target interface {
	name() string
	// prompt returns the token after each position of the prompt, the last of which
	// the target chose itself, and the hidden states at these positions.
	prompt() (tokens []int32, hidden []uint16)
	// verify runs the newest token, at position p, and the drafts after it in one
	// pass. It returns what the target chose after each, and their hidden states;
	// fewer where the text ends before.
	verify(p int, drafts []int32) (chosen []int32, hidden []uint16)
	// wrote reports whether the text is what the target writes alone.
	wrote(text []int32) bool
}

// request is one text under way.
type request struct {
	target target
	number int           // of submission
	seq    *mtp.Sequence // nil while it waits

	// Rows that the target has confirmed and the head has not seen.
	tokens []int32
	hidden []uint16

	// All rows since the prompt began, to start anew with: an engine may as well run
	// its target again.
	allTokens []int32
	allHidden []uint16

	text             []int32 // that came out
	rounds, accepted int
}

// scheduler serves requests in the order of submission, several at a time.
//
//	waiting ──admit──▶ running ──round, round, …──▶ finished
//	   ▲                  │
//	   └──── preempt ─────┘   the cache is full: its pages go to the older ones
type scheduler struct {
	head  *mtp.Head
	cache *mtp.Cache
	most  int // running at a time
	k     int // drafts a round

	waiting, running, finished []*request

	submitted                      int
	rounds, preemptions, mostPages int
}

func (s *scheduler) submit(t target) {
	tokens, hidden := t.prompt()
	s.waiting = append(s.waiting, &request{
		target: t, number: s.submitted, tokens: tokens, hidden: hidden,
		allTokens: slices.Clone(tokens), allHidden: slices.Clone(hidden), text: []int32{tokens[len(tokens)-1]},
	})
	s.submitted++
}

func (s *scheduler) busy() bool { return len(s.waiting)+len(s.running) > 0 }

// round drafts for every running request in one call, has the target verify, and
// keeps what it confirmed.
func (s *scheduler) round(ctx context.Context) error {
	s.admit()
	drafts, err := s.draft(ctx)
	if err != nil {
		return err
	}
	s.rounds++
	s.mostPages = max(s.mostPages, s.cache.Pages()-s.cache.FreePages())
	going := s.running[:0]
	for i, r := range s.running {
		more := r.seq.Len() < s.positions()
		if more { // there is one for the newest token
			if more, err = r.keep(drafts[i]); err != nil {
				return err
			}
		}
		if more {
			going = append(going, r)
			continue
		}
		if err := r.seq.Close(); err != nil {
			return err
		}
		s.finished = append(s.finished, r)
	}
	s.running = going
	return nil
}

// admit starts requests while there is room for their prompts and a chain.
func (s *scheduler) admit() {
	free, pageSize := s.cache.FreePages(), s.head.Config().Attention.BlockSize
	for len(s.waiting) > 0 && len(s.running) < s.most {
		r := s.waiting[0]
		free -= (len(r.tokens) + s.k + pageSize - 1) / pageSize
		if free < 0 && len(s.running) > 0 {
			return
		}
		r.seq = s.cache.NewSequence()
		s.waiting, s.running = s.waiting[1:], append(s.running, r)
	}
}

// positions is how many tokens a text can have, of which the last comes out alone: the
// target has no position to run it at.
func (s *scheduler) positions() int { return s.head.Config().Attention.Rope.Positions }

// drafts is how many tokens to draft for a request: the target runs them at positions after
// the newest token.
func (s *scheduler) drafts(r *request) int {
	return max(0, min(s.k, s.positions()-1-r.seq.Len()-len(r.tokens)))
}

// draft commits the confirmed rows of the running requests and drafts after them. A Draft
// that fails has changed nothing, so that it can be tried again with fewer requests.
func (s *scheduler) draft(ctx context.Context) ([]mtp.Draft, error) {
	for {
		batch := &mtp.Batch{}
		for _, r := range s.running {
			batch.Sequences = append(batch.Sequences, mtp.Rows{Sequence: r.seq, Position: r.seq.Len(), Tokens: r.tokens, Drafts: s.drafts(r)})
			batch.Hidden.BFloat16 = append(batch.Hidden.BFloat16, r.hidden...)
		}
		drafts, err := s.head.Draft(ctx, batch)
		if !errors.Is(err, attention.ErrCacheFull) || len(s.running) < 2 {
			return drafts, err
		}
		if err := s.preempt(); err != nil {
			return nil, err
		}
	}
}

// preempt takes the pages of the request that was admitted last; it is the next to
// be admitted again.
func (s *scheduler) preempt() error {
	last := len(s.running) - 1
	r := s.running[last]
	s.running = s.running[:last]
	s.waiting = slices.Insert(s.waiting, 0, r)
	s.preemptions++
	err := r.seq.Close()
	r.seq, r.tokens, r.hidden = nil, slices.Clone(r.allTokens), slices.Clone(r.allHidden)
	return err
}

// keep verifies a request's drafts and makes rows of what the target confirmed. It
// reports whether the text goes on. The rejected drafts leave no trace: the head ended
// the sequence at its confirmed rows.
func (r *request) keep(draft mtp.Draft) (more bool, err error) {
	chosen, hidden := r.target.verify(r.seq.Len(), draft.Tokens)
	if len(chosen) == 0 {
		return false, draft.Err
	}
	draft.Tokens = draft.Tokens[:len(chosen)-1]
	accepted, next, err := mtp.Verify(draft, chosen)
	if err != nil {
		return false, err
	}
	r.rounds++
	r.accepted += accepted
	width := len(hidden) / len(chosen)
	r.tokens = append(slices.Clone(draft.Tokens[:accepted]), next)
	r.hidden = hidden[:len(r.tokens)*width]
	r.text = append(r.text, r.tokens...)
	r.allTokens, r.allHidden = append(r.allTokens, r.tokens...), append(r.allHidden, r.hidden...)
	return true, nil
}
