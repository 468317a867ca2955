package safetensors

import (
	"bytes"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// literal reads true, false or null, and what Python writes for numbers that JSON does
// not have.
func (r *jsonReader) literal() error {
	words := []string{"true", "false", "null", "NaN", "Infinity"}
	if !r.python {
		words = words[:3]
	}
	for _, word := range words {
		if bytes.HasPrefix(r.data[r.pos:], []byte(word)) {
			r.pos += len(word)
			return nil
		}
	}
	return r.unexpected("a value")
}

// number reads -?int(.digits)?([eE][+-]?digits)?, where int has no leading zero.
func (r *jsonReader) number() error {
	accept := func(set string) bool {
		if r.pos < len(r.data) && strings.IndexByte(set, r.data[r.pos]) >= 0 {
			r.pos++
			return true
		}
		return false
	}
	digits := func() error {
		if !accept("0123456789") {
			return r.unexpected("a digit")
		}
		for accept("0123456789") {
		}
		return nil
	}
	accept("-")
	if !accept("0") {
		if err := digits(); err != nil {
			return err
		}
	}
	if accept(".") {
		if err := digits(); err != nil {
			return err
		}
	}
	if accept("eE") {
		accept("+-")
		return digits()
	}
	return nil
}

// string reads a string and returns it unescaped. It is a part of the text if it has no
// escapes.
func (r *jsonReader) string() (string, error) {
	if !r.next('"') {
		return "", r.unexpected("a string")
	}
	var unescaped []byte
	start := r.pos
	for r.pos < len(r.data) {
		switch c := r.data[r.pos]; {
		case c == '"':
			text := r.data[start:r.pos]
			r.pos++
			if unescaped != nil {
				r.escaped = true
				return string(append(unescaped, text...)), nil
			}
			return unsafe.String(unsafe.SliceData(text), len(text)), nil
		case c == '\\':
			unescaped = append(unescaped, r.data[start:r.pos]...)
			c, err := r.escape()
			if err != nil {
				return "", err
			}
			unescaped = utf8.AppendRune(unescaped, c)
			start = r.pos
		case c < ' ':
			return "", r.unexpected("no control character in a string")
		default:
			r.pos++
		}
	}
	return "", r.unexpected("'\"'")
}

// escape reads \c, \uXXXX, or a surrogate pair \uXXXX\uXXXX.
func (r *jsonReader) escape() (rune, error) {
	r.pos++
	if r.pos == len(r.data) {
		return 0, r.unexpected("an escaped character")
	}
	c := r.data[r.pos]
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		r.pos++
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, r.unexpected("an escaped character")
	}
	high, err := r.hex4()
	if err != nil || !utf16.IsSurrogate(high) {
		return high, err
	}
	if r.pos+1 < len(r.data) && r.data[r.pos] == '\\' && r.data[r.pos+1] == 'u' {
		r.pos++
		low, err := r.hex4()
		if err != nil {
			return 0, err
		}
		if c := utf16.DecodeRune(high, low); c != utf8.RuneError {
			return c, nil
		}
	}
	return 0, r.unexpected("a whole surrogate pair")
}

// hex4 reads the u and the four digits of \uXXXX.
func (r *jsonReader) hex4() (rune, error) {
	r.pos++
	digits := r.data[r.pos:min(r.pos+4, len(r.data))]
	v, err := strconv.ParseUint(string(digits), 16, 16)
	if err != nil || len(digits) < 4 {
		return 0, r.unexpected("four hexadecimal digits")
	}
	r.pos += 4
	return rune(v), nil
}
