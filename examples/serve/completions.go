package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/drafthead/drafthead/examples/internal/speculate"
)

// completion is an answer, or a piece of one that is streamed.
type completion struct {
	ID      string       `json:"id"`
	Object  string       `json:"object"`
	Created int64        `json:"created"`
	Model   string       `json:"model"`
	Choices []textChoice `json:"choices"`
	Usage   *usage       `json:"usage,omitempty"`
}

type textChoice struct {
	Index        int     `json:"index"`
	Text         string  `json:"text"`
	Logprobs     *int    `json:"logprobs"` // always null
	FinishReason *string `json:"finish_reason"`
}

type usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// answer is a request that is being served.
type answer struct {
	*request
	completion
	choices []*choice
	updated chan struct{}
	start   time.Time
	counts  *counters
}

// complete serves POST /v1/completions.
func (s *server) complete(w http.ResponseWriter, r *http.Request) {
	if err := s.tryComplete(w, r); err != nil && r.Context().Err() == nil { // or there is nobody to tell
		writeError(w, toAPI(err))
	}
}

func (s *server) tryComplete(w http.ResponseWriter, r *http.Request) error {
	start := time.Now()
	connection := http.NewResponseController(w)
	if err := connection.SetReadDeadline(start.Add(patience)); err != nil {
		return err
	}
	body, err := readRequest(http.MaxBytesReader(w, r.Body, s.mostBody()))
	// A deadline that passes later would look like a client that went away.
	if err = errors.Join(err, connection.SetReadDeadline(time.Time{})); err != nil {
		return err
	}
	a, err := s.submit(r.Context(), body)
	if err != nil {
		return err
	}
	a.start = start
	if a.Stream {
		return a.stream(w)
	}
	return a.whole(w)
}

// submit checks a request and gives it to the scheduler that serves now. If that one has
// just been replaced, the next takes it.
func (s *server) submit(ctx context.Context, r *request) (*answer, error) {
	for {
		m := s.model()
		if m == nil {
			return nil, errStopping
		}
		if err := r.check(m.limits); err != nil {
			return nil, err
		}
		a := &answer{request: r, updated: make(chan struct{}, 1), counts: s.counts}
		a.completion = completion{ID: fmt.Sprintf("cmpl-%016x", rand.Uint64()), Object: "text_completion", Created: time.Now().Unix(), Model: m.limits.model}
		for p := range r.Prompt {
			for i := range *r.N {
				a.choices = append(a.choices, newChoice(ctx, r, p, i, s.drafts, a.updated))
			}
		}
		err := m.scheduler.submit(a.choices...)
		if errors.Is(err, errEnding) && s.model() != m {
			continue
		}
		return a, err
	}
}

// newChoice returns text i after prompt p.
func newChoice(ctx context.Context, r *request, p, i, drafts int, updated chan<- struct{}) *choice {
	prompt := r.Prompt[p]
	c := &choice{ctx: ctx, promptLen: len(prompt), updated: updated, text: &speculate.Text{
		Tokens: slices.Clone(prompt), Most: len(prompt) + *r.MaxTokens,
		Drafts: drafts, Sampling: r.sampling(p, i), Repeatable: r.repeatable,
	}}
	for _, stop := range r.Stop {
		c.stops = append(c.stops, []byte(stop))
	}
	return c
}

// wait waits until the scheduler has written more of some choice. The choices end with an
// error when the client goes away, so that it waits for nothing else.
func (a *answer) wait() { <-a.updated }

// whole answers with one JSON object, when all choices are complete.
func (a *answer) whole(w http.ResponseWriter) error {
	total := usage{PromptTokens: a.Prompt.len()}
	for i, c := range a.choices {
		text, tokens, reason, err := c.state()
		for ; reason == "" && err == nil; text, tokens, reason, err = c.state() {
			a.wait()
		}
		if err != nil {
			return err
		}
		total.CompletionTokens += tokens
		a.Choices = append(a.Choices, textChoice{Index: i, Text: string(text), FinishReason: &reason})
	}
	total.TotalTokens = total.PromptTokens + total.CompletionTokens
	a.Usage = &total
	a.counts.latency.Observe(time.Since(a.start).Seconds())
	writeJSON(w, http.StatusOK, &a.completion)
	return nil
}

// stream answers with server-sent events, one for each piece of a choice. An error before
// the first piece has its HTTP status; a later one is an event.
func (a *answer) stream(w http.ResponseWriter) error {
	out := http.NewResponseController(w)
	defer func() { _ = out.SetWriteDeadline(time.Time{}) }() // the connection may serve other requests
	send := func(v any) error {
		data, err := json.Marshal(v)
		if err = errors.Join(err, out.SetWriteDeadline(time.Now().Add(patience))); err == nil {
			_, err = fmt.Fprintf(w, "data: %s\n\n", data)
		}
		return err
	}
	began := false
	begin := func() {
		if began {
			return
		}
		began = true
		a.counts.firstToken.Observe(time.Since(a.start).Seconds())
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-cache")
	}
	sent, ended := make([]int, len(a.choices)), make([]bool, len(a.choices))
	total := usage{PromptTokens: a.Prompt.len()}
	for left := len(a.choices); left > 0; {
		for i, c := range a.choices {
			text, tokens, reason, err := c.state()
			if err != nil {
				if !began {
					return err
				}
				_ = send(map[string]any{"error": toAPI(err)}) // a client that is gone needs none
				return nil
			}
			if ended[i] || len(text) == sent[i] && reason == "" {
				continue
			}
			begin()
			piece := a.completion
			piece.Choices = []textChoice{{Index: i, Text: string(text[sent[i]:])}}
			if sent[i] = len(text); reason != "" {
				ended[i], left = true, left-1
				total.CompletionTokens += tokens
				piece.Choices[0].FinishReason = &reason
			}
			if err := send(&piece); err != nil {
				return nil // the client is gone
			}
		}
		if err := out.Flush(); err != nil {
			return nil
		}
		if left > 0 {
			a.wait()
		}
	}
	if total.TotalTokens = total.PromptTokens + total.CompletionTokens; a.StreamOptions != nil && a.StreamOptions.IncludeUsage {
		last := a.completion
		last.Choices, last.Usage = []textChoice{}, &total
		_ = send(&last)
	}
	a.counts.latency.Observe(time.Since(a.start).Seconds())
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}
