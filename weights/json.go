package weights

import (
	"strconv"
	"unicode/utf8"
)

// jsonReader reads one JSON text (RFC 8259) from front to back without building
// a tree, and is stricter than encoding/json where a checkpoint must not be
// ambiguous: an object that names a key twice, bytes that are not UTF-8, and
// half a surrogate pair are errors. Errors are *FormatError without a file.
type jsonReader struct {
	data  []byte
	pos   int
	depth int
}

// maxDepth bounds how deep values may nest, and so the recursion of value.
const maxDepth = 64

// newJSONReader checks that data is UTF-8.
func newJSONReader(data []byte) (*jsonReader, error) {
	if !utf8.Valid(data) {
		return nil, &FormatError{Err: ErrNotUTF8}
	}
	return &jsonReader{data: data}, nil
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

// unexpected returns the error for whatever stands at the current position.
func (r *jsonReader) unexpected(want string) error {
	return &FormatError{Err: ErrNotJSON, Got: r.here(), Want: want}
}

// notObject returns the error for anything but an object.
func (r *jsonReader) notObject() error {
	return &FormatError{Err: ErrNotObject, Got: r.here(), Want: "'{'"}
}

// here describes the current position.
func (r *jsonReader) here() string {
	if r.pos == len(r.data) {
		return "end of text"
	}
	c, _ := utf8.DecodeRune(r.data[r.pos:])
	return strconv.QuoteRune(c) + " at byte " + strconv.Itoa(r.pos)
}

// end accepts white space and nothing else.
func (r *jsonReader) end() error {
	if r.peek(); r.pos < len(r.data) {
		return r.unexpected("end of text")
	}
	return nil
}

// object reads an object and calls member behind each "key:"; member must read
// the value, whole, and its error ends the reading.
func (r *jsonReader) object(member func(key string) error) error {
	if r.peek() != '{' {
		return r.notObject()
	}
	var seen keySet
	return r.list('{', '}', func() error {
		r.peek()
		at := r.pos
		key, err := r.string()
		if err != nil {
			return err
		}
		if !seen.add(key) {
			return &FormatError{Err: ErrDuplicateKey, Got: quote(key) + " again at byte " + strconv.Itoa(at)}
		}
		if !r.next(':') {
			return r.unexpected("':'")
		}
		return member(key)
	})
}

// stringMap reads an object of strings into m; the object is the value of the
// key name. A value that is no string goes to bad.
func (r *jsonReader) stringMap(name string, m map[string]string, bad *problems) error {
	return r.object(func(key string) error {
		if r.peek() != '"' {
			text, err := r.value()
			if err == nil {
				bad.add(&FormatError{Err: ErrNotString, Got: name + "[" + quote(key) + "] = " + abbreviate(string(text))})
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
