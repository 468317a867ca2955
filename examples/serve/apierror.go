package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// apiError is an error as OpenAI's clients read it.
type apiError struct {
	Status  int
	Message string
	Type    string
	Param   string // "" is sent as null
	Code    string // "" is sent as null
}

// apiErrorJSON is an apiError as it is sent.
type apiErrorJSON struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (e *apiError) Error() string { return e.Message }

// MarshalJSON writes the four fields that OpenAI always sends.
func (e *apiError) MarshalJSON() ([]byte, error) {
	orNull := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return json.Marshal(apiErrorJSON{e.Message, e.Type, orNull(e.Param), orNull(e.Code)})
}

// invalid is the error of a request that cannot be served as it is.
func invalid(status int, param, code, format string, args ...any) *apiError {
	return &apiError{status, fmt.Sprintf(format, args...), "invalid_request_error", param, code}
}

// refuse is the error of a field that is wrong.
func refuse(param, format string, args ...any) *apiError {
	return invalid(http.StatusBadRequest, param, "invalid_value", format, args...)
}

func promptTooLong(i, tokens, most int) *apiError {
	return invalid(http.StatusRequestEntityTooLarge, "prompt", "prompt_too_long", "prompt %d has %d tokens, want at most %d", i, tokens, most)
}

func tooManyPositions(i, tokens, most int) *apiError {
	return invalid(http.StatusBadRequest, "max_tokens", "context_length_exceeded",
		"prompt %d and max_tokens are %d tokens together, want at most %d, the model's positions", i, tokens, most)
}

func noModel(name, served string) *apiError {
	return invalid(http.StatusNotFound, "model", "model_not_found", "the model %q does not exist; this server has %q", name, served)
}

// toAPI returns any error as an apiError.
func toAPI(err error) *apiError {
	if api, ok := errors.AsType[*apiError](err); ok {
		return api
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return invalid(http.StatusRequestEntityTooLarge, "", "request_too_large", "the body has more than %d bytes", large.Limit)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return refuse(wrong.Field, "%s is a JSON %s, want %s", cmp.Or(wrong.Field, "the body"), wrong.Value, wanted(wrong.Type.Kind().String()))
	}
	switch {
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

// writeError answers with an error.
func writeError(w http.ResponseWriter, err *apiError) {
	if err.Status == http.StatusTooManyRequests || err.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, err.Status, map[string]any{"error": err})
}

// noRoute answers what no handler serves, so that a client reads why.
func noRoute(w http.ResponseWriter, r *http.Request) {
	writeError(w, invalid(http.StatusNotFound, "", "unknown_url", "%s %s does not exist; this server has %s", r.Method, r.URL.Path, routes))
}

// wrongMethod answers a method that a path does not have.
func wrongMethod(has string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", has)
		writeError(w, invalid(http.StatusMethodNotAllowed, "", "method_not_supported", "%s is not allowed for %s, want %s", r.Method, r.URL.Path, has))
	}
}

const routes = "POST /v1/completions, GET /v1/models, GET /v1/models/{id}, GET /metrics and GET /healthz"
