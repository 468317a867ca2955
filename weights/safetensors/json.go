package safetensors

import (
	"bytes"
	"encoding/json"
)

// ParseJSON reads one JSON value (RFC 8259) more strictly than encoding/json does: the
// text is UTF-8, no object names a key twice, surrogates come in pairs, and values nest
// at most 64 deep. Objects are map[string]any, lists []any, and numbers are kept as
// they are written, as [json.Number]. What Python's json writes beyond JSON is read: NaN,
// Infinity and -Infinity are numbers too. A byte order mark before the text is skipped.
//
// The error is a [*FormatError] with the line, the column and the dotted path of the
// key, or of the key before, where something is wrong between two. A text that is not
// JSON gives no value. Keys given twice are reported together, the first 100 of them,
// and the value has the last of each.
func ParseJSON(text []byte) (any, error) {
	r, err := newTextReader(bytes.Clone(text)) // strings of the value are parts of it
	if err != nil {
		return nil, err
	}
	var duplicates problems
	r.repeated = func(problem func() *FormatError) error {
		duplicates.must(problem)
		return nil
	}
	value, err := r.tree()
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return value, duplicates.err()
}

// tree reads any value and returns it.
func (r *jsonReader) tree() (value any, err error) {
	switch r.peek() {
	case '{':
		object := map[string]any{}
		return object, r.object(func(key string) (err error) {
			object[key], err = r.tree()
			return err
		})
	case '[':
		list := []any{}
		err = r.array(func() error {
			element, err := r.tree()
			list = append(list, element)
			return err
		})
		return list, err
	case '"':
		return r.string()
	}
	text, err := r.value()
	if err != nil {
		return nil, err
	}
	switch text[0] {
	case 't', 'f':
		return text[0] == 't', nil
	case 'n':
		return nil, nil
	}
	return json.Number(text), nil
}
