// Package cli is what the example programs share: signals and exit codes, the
// -device flag, progress bars and JSON output.
package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Exit codes of the programs.
const (
	OK     = 0
	Failed = 1 // the work did not succeed
	Usage  = 2 // the command line is wrong
)

// Program is the body of a program. args are the arguments without its name.
// ctx ends with the first interrupt; a second one ends the process.
type Program func(ctx context.Context, args []string, stdout, stderr io.Writer) int

// Main runs a program and exits with its code.
func Main(run Program) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Code returns the exit code of a program that ends with err.
func Code(err error) int {
	switch {
	case err == nil:
		return OK
	case errors.Is(err, ErrUsage):
		return Usage
	}
	return Failed
}

// Fail prints what ended a program, if anything did, and returns its exit code: after an
// interrupt the same in all programs, of wrong usage one line that says where to read more.
func Fail(ctx context.Context, w io.Writer, program string, err error) int {
	switch {
	case err == nil:
	case ctx.Err() != nil:
		fmt.Fprintf(w, "%s: interrupted\n", program)
	case errors.Is(err, ErrUsage):
		wrong(w, program, err.Error())
	default:
		fmt.Fprintf(w, "%s: %v\n", program, err)
	}
	return Code(err)
}

// WriteJSON prints one JSON value, indented, and a newline. Characters that do not print are
// escaped.
func WriteJSON(w io.Writer, v any) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return err
	}
	var b strings.Builder
	for _, c := range text.String() { // which is UTF-8
		switch {
		case c == '\n' || strconv.IsPrint(c):
			b.WriteRune(c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, "\\u%04x\\u%04x", high, low)
		default:
			fmt.Fprintf(&b, "\\u%04x", c)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
