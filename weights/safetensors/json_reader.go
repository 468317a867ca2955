package safetensors

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonReader reads one JSON text from front to back without building a tree. Its
// errors are *FormatErrors without a file.
type jsonReader struct {
	data       []byte
	pos        int
	depth      int
	path       []string  // keys of the objects that pos lies in
	named      int       // how many of them, from the first on, are not part of a key's path
	python     bool      // NaN, Infinity and -Infinity are numbers, as Python writes them
	duplicates *problems // takes keys given twice, which else end the reading; may be nil
	mark       struct{ pos, line, column int }
}

// maxDepth bounds how deep values may nest, and so the recursion of value.
const maxDepth = 64

// newJSONReader checks that data is UTF-8.
func newJSONReader(data []byte) (*jsonReader, error) {
	r := &jsonReader{data: data}
	if !utf8.Valid(data) {
		for n := 1; n > 0; r.pos += n {
			var c rune
			if c, n = utf8.DecodeRune(data[r.pos:]); c == utf8.RuneError && n == 1 {
				break
			}
		}
		return nil, r.fail(r.pos, ruleNotUTF8, fmt.Sprintf("byte %#x", data[r.pos]), "")
	}
	return r, nil
}

// newTextReader reads what people and Python write: after a byte order mark, and with
// NaN, Infinity and -Infinity among the numbers.
func newTextReader(data []byte) (*jsonReader, error) {
	r, err := newJSONReader(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err == nil {
		r.python = true
	}
	return r, err
}

// peek skips white space and returns the next byte, or 0 at the end.
func (r *jsonReader) peek() byte {
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; c {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return c
		}
	}
	return 0
}

// next consumes the next byte after white space if it is c.
func (r *jsonReader) next(c byte) bool {
	if r.peek() != c || r.pos == len(r.data) {
		return false
	}
	r.pos++
	return true
}

// fail returns the error for got, which stands at byte at.
func (r *jsonReader) fail(at int, rule ruleText, got, want string) *FormatError {
	line, column := r.position(at)
	e := &FormatError{Rule: rule, Got: fmt.Sprintf("%s at line %d, column %d", got, line, column), Want: want}
	if len(r.path) > r.named {
		keys := slices.Clone(r.path[r.named:])
		for i, key := range keys {
			keys[i] = abbreviate(key)
		}
		e.Key = strings.Join(keys, ".")
	}
	return e
}

// position returns the line and the column of byte at. It counts on from the place it
// was last asked for, so that many problems of one long line are quick to place.
func (r *jsonReader) position(at int) (line, column int) {
	m := &r.mark
	if m.line == 0 || at < m.pos {
		m.pos, m.line, m.column = 0, 1, 1
	}
	skipped := r.data[m.pos:at]
	if n := bytes.Count(skipped, []byte("\n")); n > 0 {
		m.line, m.column = m.line+n, 1
		skipped = skipped[bytes.LastIndexByte(skipped, '\n')+1:]
	}
	m.pos, m.column = at, m.column+utf8.RuneCount(skipped)
	return m.line, m.column
}

// unexpected returns the error for whatever stands at the current position.
func (r *jsonReader) unexpected(want string) error {
	return r.fail(r.pos, ruleNotJSON, r.here(), want)
}

// notObject returns the error for anything but an object.
func (r *jsonReader) notObject() error { return r.fail(r.pos, ruleNotObject, r.here(), "'{'") }

// here describes the current position.
func (r *jsonReader) here() string {
	if r.pos == len(r.data) {
		return "end of text"
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	return strconv.QuoteRune(c)
}

// end accepts white space and nothing else.
func (r *jsonReader) end() error {
	if r.peek(); r.pos < len(r.data) {
		return r.unexpected("end of text")
	}
	return nil
}

// object reads an object and calls member after each "key:"; member must read
// the value, whole, and its error ends the reading. What is wrong between two members
// is reported with the key of the one before.
func (r *jsonReader) object(member func(key string) error) error {
	if r.peek() != '{' {
		return r.notObject()
	}
	var seen keySet
	outer := len(r.path)
	err := r.list('{', '}', func() error {
		r.peek()
		at := r.pos
		key, err := r.string()
		if err != nil {
			return err
		}
		r.path = append(r.path[:outer], key)
		if !seen.add(key) {
			if err := r.twice(at); err != nil {
				return err
			}
		}
		if !r.next(':') {
			return r.unexpected("':'")
		}
		return member(key)
	})
	if err == nil {
		r.path = r.path[:outer]
	}
	return err
}

// twice reports the key at byte at, which the object has already: as an error, or to
// duplicates.
func (r *jsonReader) twice(at int) error {
	switch {
	case r.duplicates == nil:
		return r.fail(at, ruleDuplicateKey, "the key again", "")
	case r.duplicates.full():
		r.duplicates.more++
	default:
		r.duplicates.add(r.fail(at, ruleDuplicateKey, "the key again", ""))
	}
	return nil
}

// stringMap reads an object of strings into m. A value of another type goes to bad.
func (r *jsonReader) stringMap(m map[string]string, bad *problems) error {
	return r.object(func(key string) error {
		if r.peek() != '"' {
			at := r.pos
			text, err := r.value()
			if err == nil {
				bad.add(r.fail(at, ruleNotString, abbreviate(string(text)), ""))
			}
			return err
		}
		value, err := r.string()
		m[key] = value
		return err
	})
}

// array reads an array and calls element at each of its values.
func (r *jsonReader) array(element func() error) error { return r.list('[', ']', element) }

// list reads items separated by commas between open and end.
func (r *jsonReader) list(open, end byte, item func() error) error {
	if !r.next(open) {
		return r.unexpected(strconv.QuoteRune(rune(open)))
	}
	if r.depth++; r.depth > maxDepth {
		return r.unexpected("at most " + strconv.Itoa(maxDepth) + " nested values")
	}
	defer func() { r.depth-- }()
	if r.next(end) {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if r.next(end) {
			return nil
		}
		if !r.next(',') {
			return r.unexpected("',' or " + strconv.QuoteRune(rune(end)))
		}
	}
}

// value reads any value and returns its text.
func (r *jsonReader) value() ([]byte, error) {
	c := r.peek()
	start := r.pos
	var err error
	switch {
	case c == '{':
		err = r.object(func(string) error { _, err := r.value(); return err })
	case c == '[':
		err = r.array(func() error { _, err := r.value(); return err })
	case c == '"':
		_, err = r.string()
	case r.python && bytes.HasPrefix(r.data[r.pos:], []byte("-Infinity")):
		r.pos += len("-Infinity")
	case c == '-' || '0' <= c && c <= '9':
		err = r.number()
	default:
		err = r.literal()
	}
	return r.data[start:r.pos], err
}

// keySet holds the keys of one object: few in place, many in a map.
type keySet struct {
	few  [4]string
	n    int
	many map[string]struct{}
}

// add reports whether key was not yet in the set.
func (s *keySet) add(key string) bool {
	for _, k := range s.few[:s.n] {
		if k == key {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = key
		s.n++
		return true
	}
	if _, found := s.many[key]; found {
		return false
	}
	if s.many == nil {
		s.many = make(map[string]struct{})
	}
	s.many[key] = struct{}{}
	return true
}
