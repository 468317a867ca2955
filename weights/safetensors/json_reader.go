package safetensors

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonReader reads one JSON text from front to back without building a tree. Its errors are
// *FormatErrors without a file. Strings that it returns are parts of the text, which must
// never change.
type jsonReader struct {
	data     []byte
	pos      int
	depth    int
	path     []string                                // keys of the objects that pos lies in
	named    int                                     // how many of them, from the first on, are not part of a key's path
	python   bool                                    // NaN, Infinity and -Infinity are numbers, as Python writes them
	escaped  bool                                    // a string with an escape was read
	repeated func(problem func() *FormatError) error // takes a key given twice; nil: it ends the reading
	mark     struct{ pos, line, column int }
}

// maxDepth bounds how deep values may nest, and so the recursion of value.
const maxDepth = 64

// maxTextLength keeps the places of a text within an uint32.
const maxTextLength = math.MaxUint32 - 1

// newJSONReader checks that data is UTF-8.
func newJSONReader(data []byte) (*jsonReader, error) {
	r := &jsonReader{data: data}
	if int64(len(data)) > maxTextLength {
		return nil, r.fail(0, ruleNotJSON, byteCount(int64(len(data))), "at most "+byteCount(maxTextLength))
	}
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
	var seen keySet
	return r.keyedObject(&seen, member)
}

// keyedObject is object, and leaves the keys in seen, which is empty.
func (r *jsonReader) keyedObject(seen *keySet, member func(key string) error) error {
	if r.peek() != '{' {
		return r.notObject()
	}
	outer := len(r.path)
	err := r.list('{', '}', func() error {
		r.peek()
		at := r.pos
		key, err := r.string()
		if err != nil {
			return err
		}
		r.path = append(r.path[:outer], key)
		if !seen.add(r, key, at) {
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

// twice reports the key at byte at, which the object has already.
func (r *jsonReader) twice(at int) error {
	again := func() *FormatError { return r.fail(at, ruleDuplicateKey, "the key again", "") }
	if r.repeated == nil {
		return again()
	}
	return r.repeated(again)
}

// stringMember returns a member for object that reads a string and calls found with it. A
// value of another type goes to bad.
func (r *jsonReader) stringMember(bad *problems, found func(key, value string)) func(key string) error {
	return func(key string) error {
		if r.peek() != '"' {
			at := r.pos
			text, err := r.value()
			if err == nil {
				bad.must(func() *FormatError { return r.fail(at, ruleNotString, abbreviateBytes(text), "") })
			}
			return err
		}
		value, err := r.string()
		if err == nil {
			found(key, value)
		}
		return err
	}
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
