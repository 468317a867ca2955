package mtp

import (
	"errors"
	"fmt"
)

// Every problem of a config matches ErrConfig and one of the kinds after it.
var (
	// ErrConfig is matched by every error that ParseConfig and ReadConfig return for the contents of a file.
	ErrConfig = errors.New("invalid config")
	// ErrSyntax: the file is not one JSON object in UTF-8.
	ErrSyntax = errors.New("not a JSON object")
	// ErrDuplicateKey: an object names a key twice.
	ErrDuplicateKey = errors.New("duplicate key")
	// ErrMissingKey: a required key is absent or null.
	ErrMissingKey = errors.New("missing key")
	// ErrWrongType: a value has another JSON type, or an integer has a fraction or exponent.
	ErrWrongType = errors.New("wrong type")
	// ErrOutOfRange: a number lies outside the range that makes sense for it.
	ErrOutOfRange = errors.New("out of range")
	// ErrInconsistent: two values contradict each other.
	ErrInconsistent = errors.New("inconsistent")
	// ErrUnsupported: the value asks for a branch of the model family that this library does not compute.
	ErrUnsupported = errors.New("unsupported")
	// ErrPattern: an entry of ignored_layers is not a usable regular expression.
	ErrPattern = errors.New("bad pattern")
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
	// Kind is the sentinel of the problem, ErrMissingKey for example.
	Kind error
}

// Error returns "mtp: config.json: <key>: <kind>: got <got>, want <want>".
func (e *ConfigError) Error() string {
	key := ""
	if e.Key != "" {
		key = e.Key + ": "
	}
	return fmt.Sprintf("mtp: config.json: %s%v: got %s, want %s", key, e.Kind, e.Got, e.Want)
}

// Unwrap makes the error match ErrConfig and its Kind.
func (e *ConfigError) Unwrap() []error { return []error{ErrConfig, e.Kind} }

// problems collects what is wrong with a config, so that all of it is reported together.
type problems []error

func (p *problems) add(key, got, want string, kind error) {
	*p = append(*p, &ConfigError{Key: key, Got: got, Want: want, Kind: kind})
}

// err joins the problems; nil when there are none.
func (p problems) err() error { return errors.Join(p...) }
