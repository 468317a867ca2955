package safetensors

import (
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Printable returns text from a file as it is, or quoted and cut where it is not plain text
// of a readable length. What is printed of it moves no cursor, starts no line and turns no
// direction of writing.
func Printable(text string) string {
	short := abbreviate(text)
	if q := strconv.Quote(short); short != text || q != `"`+text+`"` {
		return q
	}
	return text
}

// escape returns a message in one line of characters that print.
func escape(message string) string {
	plain := func(c rune, n int) bool { return strconv.IsPrint(c) && (c != utf8.RuneError || n > 1) }
	var b strings.Builder
	for i := 0; i < len(message); {
		c, n := utf8.DecodeRuneInString(message[i:])
		if part := message[i : i+n]; plain(c, n) {
			b.WriteString(part)
		} else {
			q := strconv.Quote(part)
			b.WriteString(q[1 : len(q)-1])
		}
		i += n
	}
	return b.String()
}

// abbreviateBytes is abbreviate of a text that may be large.
func abbreviateBytes(text []byte) string {
	return abbreviate(unsafe.String(unsafe.SliceData(text), len(text)))
}

// quote quotes s for a message and cuts it to a readable length.
func quote(s string) string { return strconv.Quote(abbreviate(s)) }

// abbreviate cuts s to a readable length.
func abbreviate(s string) string {
	const limit = 200
	if len(s) <= limit {
		return strings.Clone(s) // not the text that it is a part of
	}
	end := limit
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "... (" + byteCount(int64(len(s))) + ")"
}

func byteCount(n int64) string { return strconv.FormatInt(n, 10) + " bytes" }
