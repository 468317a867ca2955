package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/drafthead/drafthead/examples/internal/speculate"
)

// sample is one text under way, and what -json prints of it.
type sample struct {
	Seed                  uint64    `json:"seed"`
	Prompt                string    `json:"prompt"`
	Text                  string    `json:"text"`          // what was written after the prompt
	Tokens                []int32   `json:"tokens"`        // the same as ids
	TargetPasses          int       `json:"target_passes"` // that wrote some of it
	Drafted               int       `json:"drafted"`
	Accepted              int       `json:"accepted"`
	PerPositionAcceptance []float64 `json:"per_position_acceptance"`
	Seconds               float64   `json:"seconds"` // until the last byte, from the start of the batch

	text      *speculate.Text
	promptLen int
}

// generate writes all samples in one ragged batch.
func (s *settings) generate(ctx context.Context, engine *speculate.Engine, prompt []int32, out *printer) (err error) {
	samples := make([]*sample, s.samples)
	texts := make([]*speculate.Text, s.samples)
	for i := range samples {
		sampling := s.sampling
		sampling.Seed += uint64(i)
		texts[i] = &speculate.Text{Tokens: slices.Clone(prompt), Most: len(prompt) + s.n, Drafts: s.drafts, Sampling: sampling}
		if s.noDraft {
			texts[i].Drafts = 0
		}
		samples[i] = &sample{Seed: sampling.Seed, Prompt: bytesOf(prompt), text: texts[i], promptLen: len(prompt)}
	}
	defer func() {
		for _, t := range texts {
			err = errors.Join(err, engine.Release(t))
		}
	}()
	wrote, finished := out.bar(len(samples))
	defer finished()
	start := time.Now()
	for done := 0; done < len(texts); {
		if err := engine.Step(ctx, texts); err != nil {
			return errors.Join(err, out.abort())
		}
		done = 0
		bytes := 0
		for i, t := range texts {
			bytes += len(t.Tokens) - len(prompt)
			if t.Err != nil {
				return t.Err
			}
			if t.Done() {
				done++
				if samples[i].Tokens == nil {
					samples[i].finish(time.Since(start))
				}
			}
		}
		wrote(int64(bytes), int64(s.n*len(samples)))
		if err := out.progress(samples); err != nil {
			return err
		}
	}
	finished()
	return out.finish(samples)
}

// finish computes what is reported of a text that is complete.
func (s *sample) finish(took time.Duration) {
	t := s.text
	s.Tokens = t.Tokens[s.promptLen:]
	s.Text, s.TargetPasses, s.Seconds = bytesOf(s.Tokens), t.Passes, took.Seconds()
	s.PerPositionAcceptance = make([]float64, len(t.DraftedAt))
	for j := range t.DraftedAt {
		s.Drafted, s.Accepted = s.Drafted+t.DraftedAt[j], s.Accepted+t.AcceptedAt[j]
		s.PerPositionAcceptance[j] = float64(t.AcceptedAt[j]) / float64(t.DraftedAt[j])
	}
}

// bytesOf returns tokens as the bytes that they are.
func bytesOf(tokens []int32) string {
	b := make([]byte, len(tokens))
	for i, t := range tokens {
		b[i] = byte(t)
	}
	return string(b)
}
