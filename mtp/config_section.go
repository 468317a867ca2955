package mtp

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// A value of a config is a string, a json.Number, a bool or nil, or the text of an object or
// a list, which is read when it is asked for.
type (
	objectText []byte
	listText   []byte
)

// mostKeys is how many keys of an object are kept beside those that are known: more than any
// config has.
const mostKeys = 1024

// decodeObject parses data as one JSON object. Keys given twice are added to found; a text
// that is not JSON ends the reading. The texts in the result are parts of data.
func decodeObject(data []byte, found *problems) (map[string]any, error) {
	if len(data) > maxConfigSize {
		return nil, &configError{got: "more than " + strconv.Itoa(maxConfigSize) + " bytes", want: "at most that", rule: ruleOutOfRange}
	}
	others := 0
	texts, err := safetensors.ParseObject(data, func(key string) bool {
		if knownKeys[key] {
			return true
		}
		others++
		return others <= mostKeys
	})
	for _, problem := range weights.Problems(err) {
		e, ok := problem.(*safetensors.FormatError)
		if !ok {
			return nil, problem
		}
		if texts == nil {
			return nil, &configError{key: e.Key, got: e.Got, want: cmp.Or(e.Want, "one JSON object in UTF-8"), rule: ruleSyntax}
		}
		if more, err := strconv.Atoi(e.Got); err == nil { // those that are not listed
			found.count[ruleDuplicateKey] += more
			continue
		}
		found.add(e.Key, e.Got, "each key once", ruleDuplicateKey)
	}
	fields := make(map[string]any, len(texts))
	for key, text := range texts {
		fields[key] = decodeValue(text)
	}
	return fields, nil
}

// decodeValue decodes the text of a value, which was checked.
func decodeValue(text []byte) any {
	switch text[0] {
	case '{':
		return objectText(text)
	case '[':
		return listText(text)
	case '"':
		if !bytes.ContainsRune(text, '\\') {
			return string(text[1 : len(text)-1])
		}
		var s string
		_ = json.Unmarshal(text, &s)
		return s
	case 't', 'f':
		return text[0] == 't'
	case 'n':
		return nil
	}
	return json.Number(text)
}

// fields decodes an object of a text that was checked.
func (o objectText) fields() map[string]any {
	fields, _ := decodeObject(o, new(problems))
	return fields
}

// elements yields the texts of a list's elements, of a text that was checked.
func (l listText) elements() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		rest := bytes.TrimLeft(l[1:], jsonSpace)
		for rest[0] != ']' {
			n := valueLength(rest)
			if !yield(rest[:n]) {
				return
			}
			rest = bytes.TrimLeft(rest[n:], jsonSpace+",")
		}
	}
}

const jsonSpace = " \t\r\n"

// valueLength returns how many bytes the value takes that text begins with.
func valueLength(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '[', '{':
			depth++
			continue
		case ']', '}':
			depth--
		default:
			if depth == 0 {
				return bytes.IndexAny(text, jsonSpace+",]}")
			}
			continue
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(text)
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
	text, ok := value[objectText](s, key, "an object", required)
	nested := section{path: joinKey(s.path, key), problems: s.problems}
	if ok {
		nested.fields = text.fields()
	}
	return nested, ok
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

// jsonText is value as JSON, shortened for an error message.
func jsonText(value any) string {
	const most = 80
	var text string
	switch v := value.(type) {
	case objectText:
		text = compact(v, most+1)
	case listText:
		text = compact(v, most+1)
	case string:
		text = strconv.Quote(v[:min(len(v), most)])
		if len(v) > most {
			text += "…"
		}
	case nil:
		return "null"
	case json.Number:
		text = string(v[:min(len(v), most+1)])
	default:
		return fmt.Sprint(value)
	}
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// compact returns the first bytes of a text in one line that prints, about most of them.
func compact(text []byte, most int) string {
	text = bytes.ToValidUTF8(text[:min(len(text), 4*most)], nil)
	line := bytes.Join(bytes.Fields(text), []byte(" "))
	return safetensors.Printable(strings.ToValidUTF8(string(line[:min(len(line), most)]), ""))
}

// joinKey appends a key to a dotted path.
func joinKey(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
