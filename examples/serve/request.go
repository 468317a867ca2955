package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"

	"github.com/drafthead/drafthead/mtp"
)

// request is the body of POST /v1/completions. Fields that are not here are ignored, but
// for those that would change the text.
type request struct {
	Model         string         `json:"model"`
	Prompt        prompts        `json:"prompt"`
	MaxTokens     *int           `json:"max_tokens"`
	Temperature   *float64       `json:"temperature"`
	TopP          *float64       `json:"top_p"`
	TopK          int            `json:"top_k"` // as vLLM's
	MinP          float64        `json:"min_p"` // as vLLM's
	Seed          *int64         `json:"seed"`
	Stop          stopStrings    `json:"stop"`
	N             *int           `json:"n"`
	Stream        bool           `json:"stream"`
	StreamOptions *streamOptions `json:"stream_options"`

	BestOf   *int   `json:"best_of"`
	Echo     bool   `json:"echo"`
	Logprobs *int   `json:"logprobs"`
	Suffix   string `json:"suffix"`

	repeatable bool // a seed was given
}

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// stopStrings are a string or a list of strings.
type stopStrings []string

func (s *stopStrings) UnmarshalJSON(data []byte) error {
	var one *string
	if json.Unmarshal(data, &one) == nil {
		if *s = nil; one != nil {
			*s = stopStrings{*one}
		}
		return nil
	}
	var many []string
	if json.Unmarshal(data, &many) != nil {
		return refuse("stop", "stop is %s, want a string or a list of strings", shorten(data))
	}
	*s = many
	return nil
}

func shorten(data []byte) string {
	if len(data) > 40 {
		return string(data[:40]) + "…"
	}
	return string(data)
}

// readRequest reads a body. What is wrong in it is an apiError.
func readRequest(body io.Reader) (*request, error) {
	r := &request{}
	d := json.NewDecoder(body)
	err := d.Decode(r)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = cmp.Or(tooLarge(more), error(refuse("", "the body goes on after its JSON object")))
		}
	}
	var wrong *json.UnmarshalTypeError
	var api *apiError
	if err != nil && tooLarge(err) == nil && !errors.As(err, &wrong) && !errors.As(err, &api) {
		err = refuse("", "the body is not JSON: %v", err)
	}
	return r, err
}

// tooLarge is err if a body was too large, and nil otherwise.
func tooLarge(err error) error {
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return nil
}

// limits are what a request may ask for.
type limits struct {
	prompt, tokens int // of a text, at most
	texts          int // at most
	positions      int // of the model
	model          string
}

// check refuses what cannot be served, and fills in defaults. The first thing that is wrong
// is reported, as OpenAI does.
func (r *request) check(l limits) *apiError {
	defaults := func(p **int, value int) int {
		if *p == nil {
			*p = &value
		}
		return **p
	}
	number := func(p **float64, value float64) float64 {
		if *p == nil {
			*p = &value
		}
		return **p
	}
	tokens, n := defaults(&r.MaxTokens, min(16, l.tokens)), defaults(&r.N, 1)
	temperature, topP := number(&r.Temperature, 1), number(&r.TopP, 1)
	if r.repeatable = r.repeatable || r.Seed != nil; !r.repeatable {
		seed := rand.Int64()
		r.Seed = &seed
	}
	switch {
	case r.Model != "" && r.Model != l.model:
		return noModel(r.Model, l.model)
	case tokens < 1 || tokens > l.tokens:
		return refuse("max_tokens", "max_tokens is %d, want 1 to %d", tokens, l.tokens)
	case !(temperature >= 0 && temperature <= 2):
		return refuse("temperature", "temperature is %g, want 0 to 2", temperature)
	case !(topP > 0 && topP <= 1):
		return refuse("top_p", "top_p is %g, want above 0, up to 1", topP)
	case r.TopK < 0:
		return refuse("top_k", "top_k is %d, want 0 or more", r.TopK)
	case !(r.MinP >= 0 && r.MinP <= 1):
		return refuse("min_p", "min_p is %g, want 0 to 1", r.MinP)
	case n < 1 || n > l.texts:
		return refuse("n", "n is %d, want 1 to %d", n, l.texts)
	case len(r.Prompt) > l.texts/n:
		return refuse("prompt", "prompt has %d prompts, want at most %d, of %d texts each", len(r.Prompt), l.texts/n, n)
	case r.BestOf != nil && *r.BestOf != n:
		return refuse("best_of", "best_of is %d, want n: all texts are returned", *r.BestOf)
	case r.Echo:
		return refuse("echo", "echo is not served")
	case r.Logprobs != nil:
		return refuse("logprobs", "logprobs are not served")
	case r.Suffix != "":
		return refuse("suffix", "suffix is not served")
	case len(r.Stop) > mostStops:
		return refuse("stop", "stop has %d strings, want at most %d", len(r.Stop), mostStops)
	}
	for _, stop := range r.Stop {
		if stop == "" || len(stop) > longestStop {
			return refuse("stop", "a string of stop has %d bytes, want 1 to %d", len(stop), longestStop)
		}
	}
	return r.Prompt.check(tokens, l)
}

const (
	mostStops   = 16
	longestStop = 256
)

// sampling is that of text i after prompt p. With a seed a prompt has the same texts in any
// list; without one, prompts that are alike have texts of their own.
func (r *request) sampling(p, i int) mtp.Sampling {
	if !r.repeatable {
		i += p * *r.N
	}
	return mtp.Sampling{Temperature: *r.Temperature, TopP: *r.TopP, TopK: r.TopK, MinP: r.MinP, Seed: uint64(*r.Seed), Stream: uint64(i)}
}
