package mtp

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// ErrConfig is matched by every error that ReadConfig returns for the contents of a file.
// Each is an [InputError] too, whose Field is the dotted path of the key.
var ErrConfig = errors.New("invalid config")

// The rules that a config can break.
const (
	ruleSyntax       = "not a JSON object" // in UTF-8
	ruleDuplicateKey = "duplicate key"
	ruleMissingKey   = "missing key"  // absent or null
	ruleWrongType    = "wrong type"   // or a number with a fraction for an integer
	ruleOutOfRange   = "out of range" // of what makes sense for it
	ruleInconsistent = "inconsistent" // two values contradict each other
	ruleUnsupported  = "unsupported"  // a branch of the model family that is not computed here
)

// configError is one problem of a config.json. It matches ErrConfig, and as an [InputError]
// says which key it is.
type configError struct {
	key  string // the dotted path of the value: "text_config.hidden_size"; empty: the file
	got  string // as JSON where it is one, or "nothing"
	want string
	rule string
}

// Error returns "mtp: config.json: <key>: <rule>: got <got>, want <want>".
func (e *configError) Error() string {
	key := ""
	if e.key != "" {
		key = safetensors.Printable(e.key) + ": "
	}
	return fmt.Sprintf("mtp: config.json: %s%v: got %s, want %s", key, e.rule, e.got, e.want)
}

// Unwrap makes the error match ErrConfig, the [InputError] that it is, and
// [errors.ErrUnsupported] where the value asks for a branch of the model family that is
// not computed here.
func (e *configError) Unwrap() []error {
	input := &InputError{Op: "mtp: config.json", Field: e.key, Got: e.got, Want: e.want}
	if e.rule == ruleUnsupported {
		input.Err = errors.ErrUnsupported
	}
	return []error{ErrConfig, input}
}

// maxProblems is how many problems of a kind are reported one by one.
const maxProblems = 100

// problems collects what is wrong with a config, so that all of it is reported together.
type problems struct {
	errs  []error
	count map[string]int // by rule
}

func (p *problems) add(key, got, want string, rule string) {
	if p.count == nil {
		p.count = make(map[string]int)
	}
	if p.count[rule]++; p.count[rule] <= maxProblems {
		p.errs = append(p.errs, &configError{key, got, want, rule})
	}
}

// err joins the problems; nil when there are none.
func (p *problems) err() error {
	errs := slices.Clip(p.errs)
	for _, rule := range slices.Sorted(maps.Keys(p.count)) {
		if more := p.count[rule] - maxProblems; more > 0 {
			errs = append(errs, &configError{got: fmt.Sprintf("%d more of them", more), want: "none", rule: rule})
		}
	}
	return errors.Join(errs...)
}
