package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"

	"github.com/drafthead/drafthead/mtp"
)

// request is the body of POST /v1/completions. Fields that are not here are ignored, but
// for those that would change the text.
type request struct {
	Model         string         `json:"model"`
	Prompt        *string        `json:"prompt"`
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

// apiError is an error as OpenAI's clients read it.
type apiError struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
	Type    string `json:"type"`
	Param   string `json:"param,omitempty"`
	Code    string `json:"code,omitempty"`
}

func (e *apiError) Error() string { return e.Message }

// refuse is the error of a field that is wrong.
func refuse(param, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, fmt.Sprintf(format, args...), "invalid_request_error", param, "invalid_value"}
}

// toAPI returns any error as an apiError.
func toAPI(err error) *apiError {
	var api *apiError
	var large *http.MaxBytesError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &api):
		return api
	case errors.As(err, &large):
		return &apiError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d bytes", large.Limit), "invalid_request_error", "", "request_too_large"}
	case errors.As(err, &wrong):
		return refuse(wrong.Field, "%s is a JSON %s, want %s", cmp.Or(wrong.Field, "the body"), wrong.Value, wanted(wrong.Type.Kind().String()))
	case errors.Is(err, errQueueFull):
		return &apiError{http.StatusTooManyRequests, err.Error(), "rate_limit_error", "", "queue_full"}
	case errors.Is(err, errStopping), errors.Is(err, errEnding):
		return &apiError{http.StatusServiceUnavailable, errStopping.Error(), "server_error", "", "stopping"}
	}
	return &apiError{http.StatusInternalServerError, err.Error(), "server_error", "", "internal_error"}
}

func wanted(kind string) string {
	switch {
	case strings.HasPrefix(kind, "int"):
		return "an integer"
	case strings.HasPrefix(kind, "float"):
		return "a number"
	case kind == "struct":
		return "an object"
	}
	return kind
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
	var large *http.MaxBytesError
	var wrong *json.UnmarshalTypeError
	var api *apiError
	if err != nil && !errors.As(err, &large) && !errors.As(err, &wrong) && !errors.As(err, &api) {
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
	prompt, tokens int // at most
	n              int
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
		return &apiError{http.StatusNotFound, fmt.Sprintf("the model %q does not exist; this server has %q", r.Model, l.model), "invalid_request_error", "model", "model_not_found"}
	case r.Prompt == nil || *r.Prompt == "":
		return refuse("prompt", "prompt is missing or empty, want a string")
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
	case n < 1 || n > l.n:
		return refuse("n", "n is %d, want 1 to %d", n, l.n)
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
	if len(*r.Prompt) > l.prompt {
		return &apiError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the prompt has %d tokens, want at most %d", len(*r.Prompt), l.prompt), "invalid_request_error", "prompt", "prompt_too_long"}
	}
	if all := len(*r.Prompt) + tokens; all > l.positions {
		return &apiError{http.StatusBadRequest, fmt.Sprintf("the prompt and max_tokens are %d tokens together, want at most %d, the model's positions", all, l.positions), "invalid_request_error", "max_tokens", "context_length_exceeded"}
	}
	return nil
}

const (
	mostStops   = 16
	longestStop = 256
)

// sampling is that of choice i.
func (r *request) sampling(i int) mtp.Sampling {
	return mtp.Sampling{Temperature: *r.Temperature, TopP: *r.TopP, TopK: r.TopK, MinP: r.MinP, Seed: uint64(*r.Seed), Stream: uint64(i)}
}
