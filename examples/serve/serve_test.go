package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
	"github.com/drafthead/drafthead/examples/internal/speculate"
	"github.com/drafthead/drafthead/examples/internal/target"
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
	"github.com/drafthead/drafthead/mtp"
)

// log is what a server logged.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// service is a server under test.
type service struct {
	*server
	web *httptest.Server
	out *log
}

// start starts a server with flags. In the end nothing may be left of it.
func start(t *testing.T, args ...string) *service {
	t.Helper()
	s, err := parse(args, io.Discard)
	require.NoError(t, err)
	d := hip.NewHost()
	out := &log{}
	before := runtime.NumGoroutine()
	made := &service{server: newServer(s, d, slog.New(slog.NewTextHandler(out, nil))), out: out}
	require.NoError(t, made.reload(t.Context()))
	made.web = httptest.NewServer(made.handler())
	t.Cleanup(func() {
		made.stop(context.Background())
		made.web.Close()
		http.DefaultClient.CloseIdleConnections()
		_, live := hiptest.InUse(d)
		require.Zero(t, live)
		require.NoError(t, d.Close())
		require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before }, 5*time.Second, 5*time.Millisecond)
		require.NotContains(t, out.String(), "level=ERROR msg=\"pages")
		require.NotContains(t, out.String(), "level=ERROR msg=step")
	})
	return made
}

// post sends a body and returns the status and what was answered.
func (s *service) post(ctx context.Context, body any) (status int, answer []byte, err error) {
	data, is := body.(string)
	if !is {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		data = string(encoded)
	}
	r, err := http.NewRequestWithContext(ctx, "POST", s.web.URL+"/v1/completions", strings.NewReader(data))
	if err != nil {
		return 0, nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

type fields map[string]any

// complete returns the answer to a request that is right.
func (s *service) completion(t *testing.T, body fields) *completion {
	t.Helper()
	status, answer, err := s.post(t.Context(), body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, status, "%s", answer)
	var c completion
	require.NoError(t, json.Unmarshal(answer, &c))
	return &c
}

// events splits a stream into its events, and checks that it is complete.
func events(t require.TestingT, stream []byte) (all []completion) {
	lines := bufio.NewScanner(bytes.NewReader(stream))
	done := false
	for lines.Scan() {
		data, is := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case lines.Text() == "":
		case data == "[DONE]":
			done = true
		default:
			require.True(t, is && !done, lines.Text())
			var c completion
			require.NoError(t, json.Unmarshal([]byte(data), &c))
			all = append(all, c)
		}
	}
	require.True(t, done, "%s", stream)
	return all
}

// joined are the texts of a stream by choice.
func joined(all []completion, n int) []textChoice {
	texts := make([]textChoice, n)
	for _, c := range all {
		for _, piece := range c.Choices {
			texts[piece.Index].Index = piece.Index
			texts[piece.Index].Text += piece.Text
			texts[piece.Index].FinishReason = piece.FinishReason
		}
	}
	return texts
}

// targetWrites returns what the target writes alone after each prompt: so many tokens.
func targetWrites(t *testing.T, prompts []string, tokens int) []string {
	t.Helper()
	head, err := mtp.LoadFS(t.Context(), m3tiny.Checkpoint(), mtp.Options{CacheFormat: attention.CacheF32})
	require.NoError(t, err)
	defer head.Close()
	model, err := target.Load(t.Context(), m3tiny.Checkpoint(), head, 256, attention.CacheF32, nil)
	require.NoError(t, err)
	defer model.Close()
	cache, err := head.NewCache(1)
	require.NoError(t, err)
	e := &speculate.Engine{Target: model, Head: head, Cache: cache}
	defer e.Close()
	var texts []*speculate.Text
	for _, p := range prompts {
		text := &speculate.Text{Most: len(p) + tokens}
		for _, b := range []byte(p) {
			text.Tokens = append(text.Tokens, int32(b))
		}
		texts = append(texts, text)
	}
	for !texts[len(texts)-1].Done() || !texts[0].Done() {
		require.NoError(t, e.Step(t.Context(), texts))
	}
	var written []string
	for i, text := range texts {
		for !text.Done() {
			require.NoError(t, e.Step(t.Context(), texts))
		}
		b := make([]byte, tokens)
		for j, token := range text.Tokens[len(prompts[i]):] {
			b[j] = byte(token)
		}
		written = append(written, string(b))
		require.NoError(t, e.Release(text))
	}
	return written
}

// somePrompts are pieces of the built-in traces, some of which begin alike.
func somePrompts(t *testing.T, n int) (all []string) {
	t.Helper()
	traces, err := m3tiny.Traces()
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(1, 2))
	for len(all) < n {
		trace := traces[len(all)%len(traces)]
		b := make([]byte, trace.PromptLen)
		for i := range b {
			b[i] = byte(trace.Tokens[i])
		}
		from := 0
		if len(all)%4 == 0 {
			from = r.IntN(50)
		}
		all = append(all, string(b[from:from+1+r.IntN(len(b)-from)]))
	}
	return all
}

// TestTextsAreTheTargets: for many clients at a time, with cancellations and reloads, each greedy text is the target's own.
func TestTextsAreTheTargets(t *testing.T) {
	const clients, rounds, most = 12, 3, 60
	s := start(t, "-max-batch", "8", "-pages", "24", "-max-prompt", "480", "-max-tokens", "64")
	prompts := somePrompts(t, 12)
	want := targetWrites(t, prompts, most)
	var group sync.WaitGroup
	for client := range clients {
		group.Go(func() {
			r := rand.New(rand.NewPCG(5, uint64(client)))
			for range rounds {
				i, tokens := r.IntN(len(prompts)), 1+r.IntN(most)
				ctx, cancel := context.WithCancel(t.Context())
				gone := r.IntN(4) == 0
				if gone {
					time.AfterFunc(time.Duration(r.IntN(100))*time.Millisecond, cancel)
				}
				stream := r.IntN(2) == 0
				status, answer, err := s.post(ctx, fields{"prompt": prompts[i], "max_tokens": tokens, "temperature": 0, "stream": stream})
				cancel()
				if err != nil && gone {
					continue
				}
				if !assertOK(t, err, status, answer) {
					return
				}
				var c completion
				if stream {
					c.Choices = joined(events(t, answer), 1)
				} else if err := json.Unmarshal(answer, &c); err != nil {
					t.Errorf("%v: %s", err, answer)
					return
				}
				if got := c.Choices[0].Text; got != strings.ToValidUTF8(want[i][:tokens], "\ufffd") {
					t.Errorf("client %d, prompt %d, %d tokens: %q, want %q", client, i, tokens, got, want[i][:tokens])
				}
			}
		})
	}
	for range 2 {
		time.Sleep(50 * time.Millisecond)
		require.NoError(t, s.reload(t.Context()))
	}
	group.Wait()
	require.Positive(t, s.counts.prefixHits.Load())
	require.Eventually(t, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.models) == 1
	}, 10*time.Second, time.Millisecond, "the models before end when their requests do")
}

func assertOK(t *testing.T, err error, status int, answer []byte) bool {
	if err != nil || status != http.StatusOK {
		t.Errorf("%v, status %d: %s", err, status, answer)
		return false
	}
	return true
}
