package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/examples/internal/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

const prompt = "// Copy returns a copy of "

// TestStream: the pieces of a stream join to the whole text, for each choice.
func TestStream(t *testing.T) {
	s := start(t)
	body := fields{"prompt": prompt, "max_tokens": 40, "n": 3, "seed": 7, "temperature": 0.8, "top_p": 0.9, "unknown": fields{}}
	whole := s.completion(t, body)
	require.Len(t, whole.Choices, 3)
	require.Equal(t, &usage{PromptTokens: len(prompt), CompletionTokens: 120, TotalTokens: len(prompt) + 120}, whole.Usage)
	require.Equal(t, "text_completion", whole.Object)
	require.Equal(t, "m3-tiny", whole.Model)
	require.NotEqual(t, whole.Choices[0].Text, whole.Choices[1].Text, "choices are drawn apart")
	for _, c := range whole.Choices {
		require.Equal(t, reasonLength, *c.FinishReason)
	}
	require.Equal(t, whole.Choices, s.completion(t, body).Choices, "a seed gives the same texts")
	body["n"] = 1
	require.Equal(t, whole.Choices[:1], s.completion(t, body).Choices, "with other choices or without")
	body["seed"] = 8
	require.NotEqual(t, whole.Choices[0].Text, s.completion(t, body).Choices[0].Text)

	body["n"], body["seed"], body["stream"], body["stream_options"] = 3, 7, true, fields{"include_usage": true}
	_, stream, err := s.post(t.Context(), body)
	require.NoError(t, err)
	all := events(t, stream)
	require.Greater(t, len(all), 10)
	require.Equal(t, whole.Choices, joined(all, 3))
	last := all[len(all)-1]
	require.Empty(t, last.Choices)
	require.Equal(t, whole.Usage, last.Usage)
	require.Equal(t, all[0].ID, last.ID)
}

// TestStop: a stop string ends the text before it, wherever it lies in a draft, and the
// stream sends none of it.
func TestStop(t *testing.T) {
	s := start(t, "-k", "8")
	whole := s.completion(t, fields{"prompt": prompt, "max_tokens": 60, "temperature": 0}).Choices[0].Text
	r := rand.New(rand.NewPCG(1, 1))
	for range 12 {
		from := 1 + r.IntN(len(whole)-8)
		stop := whole[from : from+1+r.IntN(7)]
		at := strings.Index(whole, stop)
		for _, stream := range []bool{false, true} {
			body := fields{"prompt": prompt, "max_tokens": 60, "temperature": 0, "stop": []string{"\x01never", stop}, "stream": stream}
			_, answer, err := s.post(t.Context(), body)
			require.NoError(t, err)
			c := completion{}
			if stream {
				c.Choices = joined(events(t, answer), 1)
			} else {
				require.NoError(t, json.Unmarshal(answer, &c))
				require.Equal(t, at+len(stop), c.Usage.CompletionTokens)
			}
			require.Equal(t, whole[:at], c.Choices[0].Text, "stop %q", stop)
			require.Equal(t, reasonStop, *c.Choices[0].FinishReason)
		}
	}
}

// TestFindStop: the end of a text does not depend on how many bytes come at a time, and what
// was certain stays.
func TestFindStop(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab\xc3\xa9"[r.IntN(4)]
		}
		return b
	}
	found := 0
	for range 2000 {
		text := random(r.IntN(30))
		var stops [][]byte
		for range r.IntN(3) {
			stops = append(stops, random(1+r.IntN(5)))
		}
		wantFrom, wantTo, want := findStop(text, 0, stops)
		for seen := 0; seen < len(text); {
			to := min(len(text), seen+1+r.IntN(6))
			from, end, is := findStop(text[:to], seen, stops)
			if is {
				require.Equal(t, []int{wantFrom, wantTo}, []int{from, end})
				found++
				break
			}
			sure := certain(text[:to], stops)
			if want {
				require.LessOrEqual(t, sure, wantFrom, "%q %q", text, stops)
			}
			require.Equal(t, string([]rune(string(text[:sure])))+string([]rune(string(text[sure:]))), string([]rune(string(text))), "no character is cut")
			seen = to
			require.True(t, seen < len(text) || !want)
		}
	}
	require.Greater(t, found, 100)
}

// TestRefuses: what is wrong has its status, and an error object that names it.
func TestRefuses(t *testing.T) {
	s := start(t, "-max-prompt", "100", "-max-tokens", "50", "-queue", "4", "-max-batch", "1")
	for _, c := range []struct {
		body              string
		status            int
		param, code, says string
	}{
		{`{"prompt": "a", "max_tokens": 1, "model": "gpt"}`, 404, "model", "model_not_found", `"gpt" does not exist; this server has "m3-tiny"`},
		{`{`, 400, "", "invalid_value", "the body is not JSON"},
		{``, 400, "", "invalid_value", "the body is not JSON"},
		{`[]`, 400, "", "invalid_value", "the body is a JSON array, want an object"},
		{`{"prompt": "a"} x`, 400, "", "invalid_value", "the body goes on"},
		{`{}`, 400, "prompt", "invalid_value", "prompt is missing"},
		{`{"prompt": 3}`, 400, "prompt", "invalid_value", "prompt is a JSON number, want string"},
		{`{"prompt": ""}`, 400, "prompt", "invalid_value", "empty"},
		{`{"prompt": "a", "max_tokens": 0}`, 400, "max_tokens", "invalid_value", "want 1 to 50"},
		{`{"prompt": "a", "max_tokens": 51}`, 400, "max_tokens", "invalid_value", "want 1 to 50"},
		{`{"prompt": "a", "max_tokens": 1.5}`, 400, "max_tokens", "invalid_value", "want an integer"},
		{`{"prompt": "a", "temperature": -1}`, 400, "temperature", "invalid_value", "want 0 to 2"},
		{`{"prompt": "a", "temperature": "hot"}`, 400, "temperature", "invalid_value", "want a number"},
		{`{"prompt": "a", "top_p": 0}`, 400, "top_p", "invalid_value", "want above 0"},
		{`{"prompt": "a", "top_p": 2}`, 400, "top_p", "invalid_value", "up to 1"},
		{`{"prompt": "a", "top_k": -1}`, 400, "top_k", "invalid_value", "want 0 or more"},
		{`{"prompt": "a", "min_p": 1.5}`, 400, "min_p", "invalid_value", "want 0 to 1"},
		{`{"prompt": "a", "n": 0}`, 400, "n", "invalid_value", "want 1 to 4"},
		{`{"prompt": "a", "n": 5}`, 400, "n", "invalid_value", "want 1 to 4"},
		{`{"prompt": "a", "stop": 3}`, 400, "stop", "invalid_value", "want a string or a list"},
		{`{"prompt": "a", "stop": [""]}`, 400, "stop", "invalid_value", "want 1 to 256"},
		{`{"prompt": "a", "stop": ["` + strings.Repeat(`a","`, 16) + `a"]}`, 400, "stop", "invalid_value", "17 strings"},
		{`{"prompt": "a", "echo": true}`, 400, "echo", "invalid_value", "not served"},
		{`{"prompt": "a", "logprobs": 1}`, 400, "logprobs", "invalid_value", "not served"},
		{`{"prompt": "a", "suffix": "b"}`, 400, "suffix", "invalid_value", "not served"},
		{`{"prompt": "a", "best_of": 2}`, 400, "best_of", "invalid_value", "want n"},
		{`{"prompt": "` + strings.Repeat("a", 101) + `"}`, 413, "prompt", "prompt_too_long", "101 tokens, want at most 100"},
		{`{"prompt": "` + strings.Repeat("a", 1<<17) + `"}`, 413, "", "request_too_large", "the body has more than"},
	} {
		status, answer, err := s.post(t.Context(), c.body)
		require.NoError(t, err)
		checkError(t, status, answer, c.status, c.param, c.code, c.says)
	}
	for _, body := range []string{`{"prompt": "a", "stop": null, "n": null, "max_tokens": 1}`, `{"prompt": "a", "stop": "b", "model": "m3-tiny", "best_of": 1, "user": "x"}`} {
		status, answer, err := s.post(t.Context(), body)
		require.NoError(t, err)
		require.Equal(t, 200, status, "%s", answer)
	}
	response, err := http.Get(s.web.URL + "/v1/completions")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
}

func checkError(t *testing.T, status int, answer []byte, want int, param, code, says string) {
	t.Helper()
	var got struct{ Error apiError }
	require.NoError(t, json.Unmarshal(answer, &got), "%s", answer)
	require.Equal(t, want, status, "%s", answer)
	require.Equal(t, param, got.Error.Param, "%s", answer)
	require.Equal(t, code, got.Error.Code, "%s", answer)
	require.Contains(t, got.Error.Message, says)
	require.NotEmpty(t, got.Error.Type)
}

// TestQueueAndStop: a full queue refuses with 429. A server that stops finishes what is
// under way and refuses the rest with 503; when its time is over, it fails what is left.
func TestQueueAndStop(t *testing.T) {
	s := start(t, "-queue", "2", "-max-batch", "1")
	long := fields{"prompt": prompt, "max_tokens": 1024, "n": 2, "temperature": 0}
	ctx, cancel := context.WithCancel(t.Context())
	answers := make(chan int, 2)
	send := func(ctx context.Context, body fields) {
		status, _, err := s.post(ctx, body)
		if err != nil {
			status = -1
		}
		answers <- status
	}
	m := s.model()
	go send(ctx, long)
	require.Eventually(t, func() bool { return m.scheduler.runningNow.Load() == 1 && m.scheduler.waitingNow() == 1 }, 5*time.Second, time.Millisecond)
	status, answer, err := s.post(t.Context(), fields{"prompt": "a", "n": 2})
	require.NoError(t, err)
	checkError(t, status, answer, 429, "", "queue_full", "too many requests")
	cancel()
	require.Equal(t, -1, <-answers)
	require.Eventually(t, func() bool { return m.scheduler.runningNow.Load() == 0 && m.scheduler.waitingNow() == 0 }, 5*time.Second, time.Millisecond, "a client that goes away frees its place")

	go send(t.Context(), fields{"prompt": prompt, "max_tokens": 100, "temperature": 0})
	go send(t.Context(), fields{"prompt": prompt, "max_tokens": 1024, "temperature": 0})
	require.Eventually(t, func() bool { return m.scheduler.waitingNow() == 1 }, 5*time.Second, time.Millisecond)
	hurry, now := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() { s.stop(hurry); close(stopped) }()
	require.Eventually(t, func() bool { return s.model() == nil }, 5*time.Second, time.Millisecond)
	status, answer, err = s.post(t.Context(), fields{"prompt": "a"})
	require.NoError(t, err)
	checkError(t, status, answer, 503, "", "stopping", "the server is stopping")
	for path, want := range map[string]int{"/healthz": 503, "/v1/models": 503, "/metrics": 200} {
		response, err := http.Get(s.web.URL + path)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, want, response.StatusCode, path)
	}
	first := <-answers
	now()
	<-stopped
	require.ElementsMatch(t, []int{200, 503}, []int{first, <-answers})
}

// TestPreemption: texts that outgrow the cache give up their pages and lose nothing, and all
// pages are free in the end.
func TestPreemption(t *testing.T) {
	s, err := parse([]string{"-max-prompt", "40", "-max-tokens", "150", "-pages", "7"}, io.Discard)
	require.NoError(t, err)
	d := hip.NewHost()
	server := newServer(s, d, slog.New(slog.DiscardHandler))
	m, err := server.load(t.Context())
	require.NoError(t, err)
	tokens, temperature := 150, 0.0
	prompts := []string{prompt, "func (r *Reader) ", "package main\n", "// Copy returns no"}
	var choices []*choice
	for i := range prompts {
		r := &request{Prompt: &prompts[i], MaxTokens: &tokens, Temperature: &temperature}
		require.Nil(t, r.check(m.limits))
		choices = append(choices, newChoice(t.Context(), r, 0, s.drafts, make(chan struct{}, 1)))
	}
	require.NoError(t, m.scheduler.submit(choices...))
	m.scheduler.end()
	require.ErrorIs(t, m.scheduler.submit(choices...), errEnding)
	require.NoError(t, m.scheduler.run(t.Context()))
	require.Positive(t, server.counts.preemptions.Load())
	for i, want := range targetWrites(t, prompts, tokens) {
		answer, wrote, reason, err := choices[i].state()
		require.NoError(t, err)
		require.Equal(t, reasonLength, reason)
		require.Equal(t, tokens, wrote)
		require.Equal(t, want, string(answer), "prompt %d", i)
	}
	require.Equal(t, m.target.Cache.Pages(), m.target.Cache.FreePages())
	require.Equal(t, m.scheduler.engine.Cache.Pages(), m.scheduler.engine.Cache.FreePages())
	require.NoError(t, m.close())
	_, live := hiptest.InUse(d)
	require.Zero(t, live)
	require.NoError(t, d.Close())
}

var sample = regexp.MustCompile(`^([a-z0-9_:]+)(?:\{(.*)\})? (\S+)$`)

// metrics reads /metrics: values by name, and labels but for the model's.
func (s *service) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	response, err := http.Get(s.web.URL + "/metrics")
	require.NoError(t, err)
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 200, response.StatusCode, "%s", text)
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		found := sample.FindStringSubmatch(strings.TrimSpace(line))
		require.NotNil(t, found, line)
		value, err := strconv.ParseFloat(found[3], 64)
		require.NoError(t, err)
		label := strings.Trim(strings.Replace(found[2], `model_name="m3-tiny"`, "", 1), ",")
		values[strings.Trim(found[1]+" "+label, " ")] = value
	}
	return values
}

// TestMetrics: counts go on growing over a reload.
func TestMetrics(t *testing.T) {
	s := start(t, "-k", "4")
	check := func(times float64) {
		c := s.completion(t, fields{"prompt": prompt, "max_tokens": 50, "temperature": 0})
		require.Len(t, c.Choices, 1)
		m := s.metrics(t)
		require.Equal(t, times*float64(len(prompt)), m["vllm:prompt_tokens_total"])
		require.Equal(t, times*50, m["vllm:generation_tokens_total"])
		require.Equal(t, times, m[`vllm:request_success_total finished_reason="length"`])
		require.Equal(t, times, m["vllm:e2e_request_latency_seconds_count"])
		require.Greater(t, m["vllm:spec_decode_num_drafts_total"], times*5)
		accepted := m["vllm:spec_decode_num_accepted_tokens_total"]
		require.Greater(t, accepted, times*10)
		require.Greater(t, m["vllm:spec_decode_num_draft_tokens_total"], accepted)
		byPlace := 0.0
		for i := range 4 {
			byPlace += m[fmt.Sprintf(`vllm:spec_decode_num_accepted_tokens_per_pos_total position="%d"`, i)]
		}
		require.Equal(t, accepted, byPlace)
		for _, kind := range []string{"weights", "caches", "workspaces"} {
			require.Positive(t, m[fmt.Sprintf(`drafthead:memory_bytes kind="%s"`, kind)], kind)
		}
		require.Contains(t, m, "vllm:kv_cache_usage_perc")
		require.Contains(t, m, "vllm:num_requests_running")
		require.Contains(t, m, "vllm:num_requests_waiting")
		require.Contains(t, m, "vllm:num_preemptions_total")
		require.Contains(t, m, "go_goroutines")
	}
	check(1)
	old := s.model()
	require.NoError(t, s.reload(t.Context()))
	<-old.closed
	check(2)
}

// TestReload: a checkpoint that does not load leaves the one before serving; one that does
// takes over.
func TestReload(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mine")
	require.NoError(t, os.CopyFS(dir, m3tiny.Checkpoint()))
	s := start(t, "-checkpoint", dir)
	body := fields{"prompt": prompt, "max_tokens": 20, "temperature": 0, "model": "mine"}
	want := s.completion(t, body).Choices
	config := filepath.Join(dir, "config.json")
	good, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NoError(t, os.Rename(config, config+".old"))
	before := s.model()
	require.ErrorContains(t, s.reload(t.Context()), dir)
	require.Same(t, before, s.model())
	require.Equal(t, want, s.completion(t, body).Choices)
	require.NoError(t, os.WriteFile(config, good, 0o600))
	require.NoError(t, s.reload(t.Context()))
	<-before.closed
	require.NotSame(t, before, s.model())
	require.Equal(t, want, s.completion(t, body).Choices)
}

// TestRun runs the program: it serves, loads again when asked to, and stops.
func TestRun(t *testing.T) {
	s, err := parse([]string{"-addr", "localhost:0", "-grace", "5s"}, io.Discard)
	require.NoError(t, err)
	out := &log{}
	ctx, cancel := context.WithCancel(t.Context())
	reloads, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() { ended <- s.run(ctx, out, reloads) }()
	url := regexp.MustCompile(`url=(\S+)`)
	require.Eventually(t, func() bool { return url.MatchString(out.String()) }, 20*time.Second, time.Millisecond)
	base := url.FindStringSubmatch(out.String())[1]
	for path, want := range map[string]string{"/healthz": "ok", "/v1/models": `"id":"m3-tiny"`} {
		response, err := http.Get(base + path)
		require.NoError(t, err)
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Contains(t, string(text), want)
	}
	reloads <- syscall.SIGHUP
	require.Eventually(t, func() bool { return strings.Count(out.String(), "msg=loaded") == 2 }, 20*time.Second, time.Millisecond)
	cancel()
	http.DefaultClient.CloseIdleConnections()
	require.NoError(t, <-ended)
	require.NotContains(t, out.String(), "ERROR")
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"-h"}, cli.OK, "exit status"},
		{[]string{"-wrong"}, cli.Usage, "usage: serve"},
		{[]string{"x"}, cli.Usage, `serve: unexpected arguments ["x"]`},
		{[]string{"-k", "0", "-max-batch", "0"}, cli.Usage, "-k is 0, want 1 to 64, or auto\n-max-batch is 0, want 1 to 1024\n"},
		{[]string{"-queue", "0"}, cli.Usage, "-queue is 0, want 1 to"},
		{[]string{"-grace", "-1s"}, cli.Usage, "-grace is -1s, want 0 or more"},
		{[]string{"-pages", "5", "-addr", "localhost:0"}, cli.Usage, "-pages is 5, want at least 97, for the longest request"},
		{[]string{"-addr", "nowhere"}, cli.Failed, "serve: listen"},
		{[]string{"-device", "abacus"}, cli.Usage, "want cpu, reference or hip[:n]"},
		{[]string{"-checkpoint", t.TempDir(), "-addr", "localhost:0"}, cli.Failed, "config.json"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, c.code, run(t.Context(), c.args, &stdout, &stderr), "%v: %s", c.args, stderr.String())
		require.Contains(t, stderr.String(), c.says, "%v", c.args)
		require.Empty(t, stdout.String())
	}
}
