package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/drafthead/drafthead/examples/m3tiny"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

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
	texts := []string{prompt, "func (r *Reader) ", "package main\n", "// Copy returns no"}
	var choices []*choice
	for i := range texts {
		r := &request{Prompt: prompts{tokensOf(texts[i])}, MaxTokens: &tokens, Temperature: &temperature}
		require.Nil(t, r.check(m.limits))
		choices = append(choices, newChoice(t.Context(), r, 0, 0, s.drafts, make(chan struct{}, 1)))
	}
	require.NoError(t, m.scheduler.submit(choices...))
	m.scheduler.end()
	require.ErrorIs(t, m.scheduler.submit(choices...), errEnding)
	require.NoError(t, m.scheduler.run(t.Context()))
	require.Positive(t, server.counts.preemptions.Load())
	for i, want := range targetWrites(t, texts, tokens) {
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
		{[]string{"-wrong"}, cli.Usage, "serve: flag provided but not defined: -wrong; run serve -h for its flags\n"},
		{[]string{"x"}, cli.Usage, `serve: unexpected arguments ["x"]`},
		{[]string{"-k", "65", "-max-batch", "0"}, cli.Usage, "-k is 65, want 0 to 64, or auto; -max-batch is 0, want 1 to 1024; run "},
		{[]string{"-queue", "0"}, cli.Usage, "-queue is 0, want 1 to"},
		{[]string{"-grace", "-1s"}, cli.Usage, "-grace is -1s, want 0 or more"},
		{[]string{"-pages", "5", "-addr", "localhost:0"}, cli.Usage, "-pages is 5, want at least 97, for the longest request"},
		{[]string{"-addr", "nowhere"}, cli.Failed, "serve: -addr: listen"},
		{[]string{"-device", "abacus"}, cli.Usage, "want cpu[:bf16x2|bf16], reference or hip[:n]"},
		{[]string{"-checkpoint", "/none", "-addr", "localhost:0"}, cli.Failed, "serve: /none: no such file or directory; want a folder with config.json"},
		{[]string{"-checkpoint", "../../mtp/testdata/golden/tiny-f32", "-addr", "localhost:0"}, cli.Failed, "tiny-f32: this checkpoint has no target, no model.layers.* "},
		{[]string{"-checkpoint", t.TempDir(), "-addr", "localhost:0"}, cli.Failed, "config.json"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, c.code, run(t.Context(), c.args, &stdout, &stderr), "%v: %s", c.args, stderr.String())
		require.Contains(t, stderr.String(), c.says, "%v", c.args)
		require.Empty(t, stdout.String())
	}
}
