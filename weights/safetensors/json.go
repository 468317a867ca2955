package safetensors

import (
	"encoding/json"
	"strings"
)

// ParseObject reads one JSON object (RFC 8259) more strictly than encoding/json does: the
// text is UTF-8, no object names a key twice, surrogates come in pairs, and values nest
// at most 64 deep. What Python's json writes beyond JSON is read: NaN, Infinity and
// -Infinity are numbers too. A byte order mark before the text is skipped.
//
// It checks all of the text and returns the values of the keys that keep accepts, as they
// are written. They are parts of text, so a large text takes little memory. A value that is
// an object is read by another call.
//
// The error is a [*FormatError] with the line, the column and the dotted path of the
// key, or of the key before, where something is wrong between two. A text that is not
// a JSON object gives no values. Keys given twice are reported together, the first 100 of
// them, and the values have the last of each.
func ParseObject(text []byte, keep func(key string) bool) (map[string]json.RawMessage, error) {
	r, err := newTextReader(text)
	if err != nil {
		return nil, err
	}
	var duplicates problems
	r.repeated = func(problem func() *FormatError) error {
		duplicates.must(problem)
		return nil
	}
	values := make(map[string]json.RawMessage)
	if r.peek() != '{' {
		var at, value = r.pos, []byte(nil)
		if value, err = r.value(); err == nil {
			err = r.fail(at, ruleNotObject, abbreviateBytes(value), "'{'")
		}
	} else {
		err = r.object(func(key string) error {
			r.peek()
			value, err := r.value()
			if keep(key) {
				values[strings.Clone(key)] = value
			}
			return err
		})
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return values, duplicates.err()
}
