package safetensors

import (
	"bytes"
	"encoding/json"
)

// parseJSON reads any value as a tree, as encoding/json does with numbers as they are
// written. Keys given twice are reported together.
func parseJSON(text []byte) (any, error) {
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
