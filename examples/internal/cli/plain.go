package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Plain returns a writer for the text of a program: what moves a cursor, turns a direction of
// writing or is not UTF-8 is written escaped. Lines and tabs stay.
func Plain(w io.Writer) io.Writer {
	if _, ok := w.(plain); ok {
		return w
	}
	return plain{w}
}

type plain struct{ w io.Writer }

func (p plain) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.w, escape(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// escape writes the characters of text that do not print as Go escapes them.
func escape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); {
		c, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case c == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case c == '\n' || c == '\t' || strconv.IsPrint(c):
			b.WriteString(text[i : i+n])
		default:
			quoted := strconv.QuoteRuneToASCII(c)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
		i += n
	}
	return b.String()
}
