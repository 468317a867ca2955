package mtp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxConfigDepth bounds the nesting of objects and arrays; a Hugging Face config has about four levels.
const maxConfigDepth = 64

// decodeObject parses data as one JSON object: nested values are
// map[string]any, []any, string, json.Number, bool and nil. Unlike
// json.Unmarshal it refuses invalid UTF-8 and duplicate keys at every level.
// Duplicate keys are added to found; a syntax error ends the reading.
func decodeObject(data []byte, found *problems) (map[string]any, error) {
	if len(data) > maxConfigSize {
		return nil, &ConfigError{Got: "more than " + strconv.Itoa(maxConfigSize) + " bytes", Want: "at most that", Kind: ErrOutOfRange}
	}
	if !utf8.Valid(data) {
		return nil, &ConfigError{Got: "bytes that are not UTF-8", Want: "UTF-8", Kind: ErrSyntax}
	}
	d := &objectDecoder{tokens: json.NewDecoder(bytes.NewReader(data)), problems: found}
	d.tokens.UseNumber()
	value, err := d.value("", 0)
	if err == nil {
		if _, trailing := d.tokens.Token(); trailing != io.EOF {
			err = fmt.Errorf("more text after the value at byte %d", d.tokens.InputOffset())
		}
	}
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, &ConfigError{Got: err.Error(), Want: "one JSON object", Kind: ErrSyntax}
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, &ConfigError{Got: jsonText(value), Want: "one JSON object", Kind: ErrSyntax}
	}
	return object, nil
}

// objectDecoder builds a tree from JSON tokens and collects duplicate keys.
type objectDecoder struct {
	tokens   *json.Decoder
	problems *problems
}

// value reads the next value, whose dotted path is path.
func (d *objectDecoder) value(path string, depth int) (any, error) {
	token, err := d.tokens.Token()
	if err != nil {
		return nil, err
	}
	delimiter, nested := token.(json.Delim)
	if !nested {
		return token, nil
	}
	if depth == maxConfigDepth {
		return nil, fmt.Errorf("values nested deeper than %d at byte %d", maxConfigDepth, d.tokens.InputOffset())
	}
	if delimiter == '[' {
		array := []any{}
		for d.tokens.More() {
			element, err := d.value(path, depth+1)
			if err != nil {
				return nil, err
			}
			array = append(array, element)
		}
		_, err = d.tokens.Token() // the closing bracket
		return array, err
	}
	object := map[string]any{}
	for d.tokens.More() {
		token, err := d.tokens.Token()
		if err != nil {
			return nil, err
		}
		key := token.(string) // the decoder yields nothing else in a key's place
		keyPath := joinKey(path, key)
		element, err := d.value(keyPath, depth+1)
		if err != nil {
			return nil, err
		}
		if _, seen := object[key]; seen {
			d.problems.add(keyPath, "the key twice", "each key once", ErrDuplicateKey)
		}
		object[key] = element
	}
	_, err = d.tokens.Token() // the closing brace
	return object, err
}

// section is one JSON object of the config. Its readers return the zero value
// and record a problem when a value is not what is asked for.
type section struct {
	path     string
	fields   map[string]any
	problems *problems
}

// get returns the value of key; null counts as absent.
func (s section) get(key string) (any, bool) {
	value := s.fields[key]
	return value, value != nil
}

// fail records a problem with the value of key.
func (s section) fail(key, want string, kind error) {
	got := "nothing"
	if value, ok := s.get(key); ok {
		got = jsonText(value)
	}
	s.problems.add(joinKey(s.path, key), got, want, kind)
}

// value returns the value of key as a T, or records that a required key is
// missing or that its type is wrong.
func value[T any](s section, key, want string, required bool) (T, bool) {
	got, present := s.get(key)
	typed, ok := got.(T)
	switch {
	case ok:
		return typed, true
	case present:
		s.fail(key, want, ErrWrongType)
	case required:
		s.fail(key, want, ErrMissingKey)
	}
	return typed, false
}

// object returns the object at key as a section.
func (s section) object(key string, required bool) (section, bool) {
	fields, ok := value[map[string]any](s, key, "an object", required)
	return section{path: joinKey(s.path, key), fields: fields, problems: s.problems}, ok
}

// integer returns the required integer at key, which must lie in [low, high].
func (s section) integer(key string, low, high int) int {
	n, _ := s.integerIn(key, low, high, true)
	return n
}

// integerOr is integer for a key that may be absent.
func (s section) integerOr(key string, low, high, absent int) int {
	if n, ok := s.integerIn(key, low, high, false); ok {
		return n
	}
	return absent
}

func (s section) integerIn(key string, low, high int, required bool) (int, bool) {
	want := fmt.Sprintf("an integer in [%d, %d]", low, high)
	number, ok := value[json.Number](s, key, want, required)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	switch {
	case err != nil && strings.ContainsAny(number.String(), ".eE"):
		s.fail(key, want, ErrWrongType)
	case err != nil || n < int64(low) || n > int64(high):
		s.fail(key, want, ErrOutOfRange)
	default:
		return int(n), true
	}
	return 0, false
}

// float returns the number at key, which must lie in [low, high].
func (s section) float(key string, low, high float64, required bool) (float64, bool) {
	want := fmt.Sprintf("a number in [%g, %g]", low, high)
	number, ok := value[json.Number](s, key, want, required)
	if !ok {
		return 0, false
	}
	x, err := number.Float64()
	if err != nil || !(low <= x && x <= high) {
		s.fail(key, want, ErrOutOfRange)
		return 0, false
	}
	return x, true
}

// positive returns the number at key, which must be positive and normal in
// float32, the type the kernels take it in.
func (s section) positive(key string, required bool) (float64, bool) {
	const smallestNormal = 0x1p-126
	return s.float(key, smallestNormal, math.MaxFloat32, required)
}

// boolOr returns the boolean at key, or absent when there is none.
func (s section) boolOr(key string, absent bool) bool {
	if b, ok := value[bool](s, key, "true or false", false); ok {
		return b
	}
	return absent
}

// jsonText is value as JSON, shortened for an error message.
func jsonText(value any) string {
	const most = 80
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("%T", value)
	}
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// joinKey appends a key to a dotted path.
func joinKey(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
