package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCode(t *testing.T) {
	wrong := WrongUsage("-k is %d, want 1 to 64", 65)
	require.Equal(t, "-k is 65, want 1 to 64", wrong.Error())
	for want, errs := range map[int][]error{
		OK:     {nil},
		Failed: {io.EOF, errors.Join(io.EOF, io.ErrClosedPipe)},
		Usage:  {wrong, errors.Join(wrong, wrong), fmt.Errorf("x: %w", wrong), ErrUsage},
	} {
		for _, err := range errs {
			require.Equal(t, want, Code(err), "%v", err)
		}
	}
	require.ErrorIs(t, WrongUsage("x: %w", io.EOF), io.EOF)
}

func TestProgressIsSilentInAPipe(t *testing.T) {
	var out bytes.Buffer
	Spinner(&out, "verify")()
	update, done := Progress(&out, "load", "bytes")
	for i := range int64(100) {
		update(i, 100)
	}
	done()
	require.Empty(t, out.String())
}

func TestParseInAnyOrder(t *testing.T) {
	for _, c := range []struct{ args, rest []string }{
		{nil, nil},
		{[]string{"a", "-n", "3", "b"}, []string{"a", "b"}},
		{[]string{"-n=3", "a", "b"}, []string{"a", "b"}},
		{[]string{"a", "b", "-n", "3"}, []string{"a", "b"}},
		{[]string{"-n", "3", "a", "--", "-n", "b"}, []string{"a", "-n", "b"}},
		{[]string{"-n", "3", "--", "--", "b"}, []string{"--", "b"}},
	} {
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		n := flags.Int("n", 3, "")
		rest, err := Parse(flags, c.args)
		require.NoError(t, err, "%q", c.args)
		require.Equal(t, c.rest, rest, "%q", c.args)
		require.Equal(t, 3, *n)
	}
}

// TestWrongFlag: a flag that is wrong is one line; only who asks for the usage gets it.
func TestWrongFlag(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-wrong", "test: flag provided but not defined: -wrong; run test -h for its flags\n"},
		{"a -n", "test: flag needs an argument: -n; run test -h for its flags\n"},
		{"a -n b", "test: invalid value \"b\" for flag -n: parse error; run test -h for its flags\n"},
		{"-n 4 ---n", "test: bad flag syntax: ---n; run test -h for its flags\n"},
		{"a -h -wrong", "usage: test\n  -n int\n      a number\n"},
	} {
		var out bytes.Buffer
		flags := Flags("test", "usage: test\n", &out)
		flags.Int("n", 0, "a number")
		_, err := Parse(flags, strings.Fields(c.args))
		require.Error(t, err)
		require.Equal(t, c.want, out.String())
	}
}

// TestFail: an interrupt says the same in all programs, and wrong usage is one line.
func TestFail(t *testing.T) {
	interrupted, interrupt := context.WithCancel(t.Context())
	interrupt()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		code int
		want string
	}{
		{t.Context(), nil, OK, ""},
		{interrupted, nil, OK, ""},
		{interrupted, fmt.Errorf("read: %w", context.Canceled), Failed, "test: interrupted\n"},
		{t.Context(), io.EOF, Failed, "test: EOF\n"},
		{t.Context(), errors.Join(WrongUsage("-a is 0"), WrongUsage("-b is 0")), Usage, "test: -a is 0; -b is 0; run test -h for its flags\n"},
	} {
		var out bytes.Buffer
		require.Equal(t, c.code, Fail(c.ctx, &out, "test", c.err))
		require.Equal(t, c.want, out.String())
	}
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteJSON(&out, map[string]any{"a<b": []int{1}}))
	require.Equal(t, "{\n  \"a<b\": [\n    1\n  ]\n}\n", out.String())
}
