package mtp

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// decodeObject parses data as one JSON object: nested values are
// map[string]any, []any, string, json.Number, bool and nil. Keys given twice are added
// to found; a text that is not JSON ends the reading.
func decodeObject(data []byte, found *problems) (map[string]any, error) {
	if len(data) > maxConfigSize {
		return nil, &configError{got: "more than " + strconv.Itoa(maxConfigSize) + " bytes", want: "at most that", rule: ruleOutOfRange}
	}
	value, err := safetensors.ParseJSON(data)
	for _, problem := range weights.Problems(err) {
		e, ok := problem.(*safetensors.FormatError)
		if !ok {
			return nil, problem
		}
		if e.Rule.Error() == "more problems" {
			e.Got += " more keys"
		}
		if value == nil {
			return nil, &configError{key: e.Key, got: e.Got, want: cmp.Or(e.Want, "one JSON object in UTF-8"), rule: ruleSyntax}
		}
		found.add(e.Key, e.Got, "each key once", ruleDuplicateKey)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, &configError{got: jsonText(value), want: "one JSON object", rule: ruleSyntax}
	}
	return object, nil
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
func (s section) fail(key, want string, rule string) {
	got := "nothing"
	if value, ok := s.get(key); ok {
		got = jsonText(value)
	}
	s.problems.add(joinKey(s.path, key), got, want, rule)
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
		s.fail(key, want, ruleWrongType)
	case required:
		s.fail(key, want, ruleMissingKey)
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
	n, err := wholeNumber(number.String())
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		s.fail(key, want, ruleWrongType)
	case err != nil || n < int64(low) || n > int64(high):
		s.fail(key, want, ruleOutOfRange)
	default:
		return int(n), true
	}
	return 0, false
}

// wholeNumber reads a JSON number that is an integer, however it is written: 16, 16.0 or
// 1.6e1. The error matches strconv.ErrSyntax for another number, and strconv.ErrRange for
// one beyond int64.
func wholeNumber(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil || !strings.ContainsAny(text, ".eE") {
		if err != nil {
			err = strconv.ErrRange // NaN too
		}
		return n, err
	}
	digits, exponent, _ := strings.Cut(strings.ToLower(text), "e")
	whole, fraction, _ := strings.Cut(digits, ".")
	shift := 0
	if exponent != "" {
		var err error
		if shift, err = strconv.Atoi(exponent); err != nil {
			return 0, strconv.ErrRange
		}
	}
	fraction = strings.TrimRight(fraction, "0")
	switch {
	case strings.Trim(whole+fraction, "-0") == "":
		return 0, nil
	case shift > 20:
		return 0, strconv.ErrRange
	case len(fraction) > max(shift, 0):
		return 0, strconv.ErrSyntax
	case shift < 0:
		if !strings.HasSuffix(whole, strings.Repeat("0", min(-shift, len(whole)))) || -shift >= len(whole) {
			return 0, strconv.ErrSyntax
		}
		return strconv.ParseInt(whole[:len(whole)+shift], 10, 64)
	}
	return strconv.ParseInt(whole+fraction+strings.Repeat("0", shift-len(fraction)), 10, 64)
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
		s.fail(key, want, ruleOutOfRange)
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

// jsonText is value as JSON, shortened for an error message. It looks at no more of a
// large value than it shows.
func jsonText(value any) string {
	const most = 80
	text := appendJSON(nil, value, most)
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// appendJSON appends value as JSON until there are more than most bytes.
func appendJSON(text []byte, value any, most int) []byte {
	if len(text) > most {
		return text
	}
	switch v := value.(type) {
	case map[string]any:
		text = append(text, '{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				text = append(text, ',')
			}
			text = append(appendJSON(text, key, most), ':')
			if text = appendJSON(text, v[key], most); len(text) > most {
				return text
			}
		}
		return append(text, '}')
	case []any:
		text = append(text, '[')
		for i, element := range v {
			if i > 0 {
				text = append(text, ',')
			}
			if text = appendJSON(text, element, most); len(text) > most {
				return text
			}
		}
		return append(text, ']')
	case string:
		return strconv.AppendQuote(text, v[:min(len(v), most)])
	case nil:
		return append(text, "null"...)
	case json.Number:
		return append(text, v[:min(len(v), most+1)]...)
	}
	return fmt.Append(text, value)
}

// joinKey appends a key to a dotted path.
func joinKey(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
