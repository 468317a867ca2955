package mtp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// ErrConfig is matched by every error that ParseConfig and ReadConfig return for the
// contents of a file.
var ErrConfig = errors.New("invalid config")

// The rules that a config can break.
const (
	ruleSyntax       = "not a JSON object" // in UTF-8
	ruleDuplicateKey = "duplicate key"
	ruleMissingKey   = "missing key"  // absent or null
	ruleWrongType    = "wrong type"   // or an integer with a fraction or exponent
	ruleOutOfRange   = "out of range" // of what makes sense for it
	ruleInconsistent = "inconsistent" // two values contradict each other
	ruleUnsupported  = "unsupported"  // a branch of the model family that is not computed here
)

// ConfigError is one problem of a config.json.
type ConfigError struct {
	// Key is the dotted path of the value from the top of the file, for
	// example "text_config.hidden_size"; empty for the file as a whole.
	Key string
	// Got is the value found, as JSON where it is one, or "nothing".
	Got string
	// Want says what is accepted.
	Want string
	// Rule is the rule that the value breaks, in words: "missing key", "out of range".
	Rule string
}

// Error returns "mtp: config.json: <key>: <rule>: got <got>, want <want>".
func (e *ConfigError) Error() string {
	key := ""
	if e.Key != "" {
		key = printable(e.Key) + ": "
	}
	return fmt.Sprintf("mtp: config.json: %s%v: got %s, want %s", key, e.Rule, e.Got, e.Want)
}

// Unwrap makes the error match ErrConfig, and [errors.ErrUnsupported] where the value asks
// for a branch of the model family that is not computed here.
func (e *ConfigError) Unwrap() []error {
	if e.Rule == ruleUnsupported {
		return []error{ErrConfig, errors.ErrUnsupported}
	}
	return []error{ErrConfig}
}

// printable returns text from a file as it is, or quoted where it is not plain text of a
// readable length.
func printable(text string) string {
	const limit = 200
	if len(text) > limit {
		return strconv.Quote(fmt.Sprintf("%s... (%d bytes)", text[:limit], len(text)))
	}
	if q := strconv.Quote(text); q != `"`+text+`"` {
		return q
	}
	return text
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
		p.errs = append(p.errs, &ConfigError{Key: key, Got: got, Want: want, Rule: rule})
	}
}

// err joins the problems; nil when there are none.
func (p *problems) err() error {
	errs := slices.Clip(p.errs)
	for _, rule := range slices.Sorted(maps.Keys(p.count)) {
		if more := p.count[rule] - maxProblems; more > 0 {
			errs = append(errs, &ConfigError{Got: fmt.Sprintf("%d more of them", more), Want: "none", Rule: rule})
		}
	}
	return errors.Join(errs...)
}
