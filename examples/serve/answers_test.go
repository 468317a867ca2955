package main

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// TestPrompts: all forms of a prompt are served, the texts of each prompt one after the
// other, as if it were alone.
func TestPrompts(t *testing.T) {
	s := start(t)
	one, two := prompt, "package main\n"
	request := func(prompt any) fields {
		return fields{"prompt": prompt, "max_tokens": 20, "n": 2, "seed": 3, "temperature": 0.7}
	}
	first, second := s.completion(t, request(one)), s.completion(t, request(two))
	want := slices.Concat(first.Choices, second.Choices)
	for i := range want {
		want[i].Index = i
	}
	for _, both := range []any{
		[]string{one, two},
		[][]int32{tokensOf(one), tokensOf(two)},
		[]any{one, tokensOf(two)},
	} {
		got := s.completion(t, request(both))
		require.Equal(t, want, got.Choices)
		require.Equal(t, &usage{PromptTokens: len(one + two), CompletionTokens: 80, TotalTokens: len(one+two) + 80}, got.Usage)
		body := request(both)
		body["stream"] = true
		_, stream, err := s.post(t.Context(), body)
		require.NoError(t, err)
		require.Equal(t, want, joined(events(t, stream), 4))
	}
	for _, alone := range []any{[]string{one}, tokensOf(one), [][]int32{tokensOf(one)}} {
		require.Equal(t, first.Choices, s.completion(t, request(alone)).Choices)
	}
	alike := fields{"prompt": []string{one, one}, "max_tokens": 40, "temperature": 1}
	texts := s.completion(t, alike).Choices
	require.NotEqual(t, texts[0].Text, texts[1].Text, "without a seed, prompts that are alike are drawn apart")
}

// TestSameTextWithoutDrafts: drafts change no text that is greedy or has a seed, and the
// target alone shares beginnings too.
func TestSameTextWithoutDrafts(t *testing.T) {
	body := fields{"prompt": prompt + prompt, "max_tokens": 50, "temperature": 0.9, "seed": 3, "n": 2}
	greedy := fields{"prompt": prompt + prompt, "max_tokens": 50, "temperature": 0}
	var drawn, likely []textChoice
	for _, k := range []string{"0", "3", "auto"} {
		t.Run("-k "+k, func(t *testing.T) {
			s := start(t, "-k", k)
			got := s.completion(t, body).Choices
			require.Equal(t, got, s.completion(t, body).Choices)
			require.Positive(t, s.counts.prefixHits.Load())
			if drawn == nil {
				drawn, likely = got, s.completion(t, greedy).Choices
			}
			require.Equal(t, drawn, got)
			require.Equal(t, likely, s.completion(t, greedy).Choices)
			require.Equal(t, k == "0", s.metrics(t)["vllm:spec_decode_num_drafts_total"] == 0)
		})
	}
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
		{`{"prompt": 3}`, 400, "prompt", "invalid_value", "prompt 0 is 3: it is neither a string nor integers; want a string, a list"},
		{`{"prompt": ""}`, 400, "prompt", "invalid_value", "prompt 0 is empty"},
		{`{"prompt": null}`, 400, "prompt", "invalid_value", "prompt is missing"},
		{`{"prompt": []}`, 400, "prompt", "invalid_value", "prompt is missing or empty"},
		{`{"prompt": [[]]}`, 400, "prompt", "invalid_value", "prompt 0 is empty"},
		{`{"prompt": ["a", ""]}`, 400, "prompt", "invalid_value", "prompt 1 is empty"},
		{`{"prompt": ["a", 1]}`, 400, "prompt", "invalid_value", "prompt 1 is 1: it is neither"},
		{`{"prompt": ["a", null]}`, 400, "prompt", "invalid_value", "prompt 1 is null"},
		{`{"prompt": [1, "a"]}`, 400, "prompt", "invalid_value", "neither a string nor integers"},
		{`{"prompt": [1, null]}`, 400, "prompt", "invalid_value", "neither a string nor integers"},
		{`{"prompt": [1.5]}`, 400, "prompt", "invalid_value", "neither a string nor integers"},
		{`{"prompt": [[7], [65, 256]]}`, 400, "prompt", "invalid_value", "token 1 of prompt 1 is 256, want 0 to 255"},
		{`{"prompt": [-1]}`, 400, "prompt", "invalid_value", "token 0 of prompt 0 is -1"},
		{`{"prompt": ["a", "b", "c"], "n": 2}`, 400, "prompt", "invalid_value", "3 prompts, want at most 2, of 2 texts each"},
		{`{"prompt": ["a", "` + strings.Repeat("a", 101) + `"]}`, 413, "prompt", "prompt_too_long", "prompt 1 has 101 tokens"},
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
		{`{"prompt": "` + strings.Repeat("a", 101) + `"}`, 413, "prompt", "prompt_too_long", "prompt 0 has 101 tokens, want at most 100"},
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
}

// TestRoutes: the model is described under its name, and what is not served has an error
// object too.
func TestRoutes(t *testing.T) {
	s := start(t)
	ask := func(method, path string) (int, []byte, http.Header) {
		r, err := http.NewRequestWithContext(t.Context(), method, s.web.URL+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, answer, response.Header
	}
	var one fields
	var list struct{ Data []fields }
	status, answer, _ := ask("GET", "/v1/models/m3-tiny")
	require.Equal(t, 200, status)
	require.NoError(t, json.Unmarshal(answer, &one))
	require.Equal(t, []any{"m3-tiny", "model", "drafthead"}, []any{one["id"], one["object"], one["owned_by"]})
	_, answer, _ = ask("GET", "/v1/models")
	require.NoError(t, json.Unmarshal(answer, &list))
	require.Equal(t, []fields{one}, list.Data)

	status, answer, _ = ask("GET", "/v1/models/gpt")
	checkError(t, status, answer, 404, "model", "model_not_found", `"gpt" does not exist`)
	status, answer, _ = ask("POST", "/v1/chat/completions")
	checkError(t, status, answer, 404, "", "unknown_url", "this server has POST /v1/completions")
	for path, has := range map[string]string{"/v1/completions": "POST", "/v1/models": "GET", "/v1/models/m3-tiny": "GET"} {
		status, answer, header := ask("DELETE", path)
		checkError(t, status, answer, 405, "", "method_not_supported", "want "+has)
		require.Equal(t, has, header.Get("Allow"))
	}
}

func checkError(t *testing.T, status int, answer []byte, want int, param, code, says string) {
	t.Helper()
	var got struct{ Error apiErrorJSON }
	require.NoError(t, json.Unmarshal(answer, &got), "%s", answer)
	require.Equal(t, want, status, "%s", answer)
	require.Equal(t, code, *got.Error.Code, "%s", answer)
	if param == "" {
		require.Contains(t, string(answer), `"param":null`)
	} else {
		require.Equal(t, param, *got.Error.Param, "%s", answer)
	}
	require.Contains(t, got.Error.Message, says)
	require.NotEmpty(t, got.Error.Type)
}

// TestQueueAndStop: a full queue refuses with 429. A server that stops finishes what is
// under way and refuses the rest with 503; when its time is over, it fails what is left.
func TestQueueAndStop(t *testing.T) {
	s := start(t, "-queue", "2", "-max-batch", "1", "-max-tokens", "4000")
	long := fields{"prompt": prompt, "max_tokens": 4000, "n": 2, "temperature": 0}
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

	go send(t.Context(), fields{"prompt": prompt, "max_tokens": 1000, "temperature": 0})
	require.Eventually(t, func() bool { return m.scheduler.runningNow.Load() == 1 }, 5*time.Second, time.Millisecond)
	go send(t.Context(), fields{"prompt": prompt, "max_tokens": 4000, "temperature": 0})
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
