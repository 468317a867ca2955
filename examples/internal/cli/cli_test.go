package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestDevice(t *testing.T) {
	for name, kind := range map[string]string{"cpu": "cpu", "reference": "reference"} {
		d, err := Device(name)
		require.NoError(t, err)
		require.Equal(t, kind, d.Info().Kind)
		require.NoError(t, d.Close())
	}
	_, err := Device("hip:999")
	require.ErrorIs(t, err, hip.ErrNoDevice)
	require.NotContains(t, err.Error(), "\n", "one line")
	for _, name := range []string{"hip", "hip:0"} {
		if d, err := Device(name); err == nil {
			require.Contains(t, []string{"hip", "cuda"}, d.Info().Kind)
			require.NoError(t, d.Close())
		} else {
			require.ErrorIs(t, err, hip.ErrNoDevice)
		}
	}
	for _, name := range []string{"", "gpu", "cpu:1", "hip:", "hip:-1", "hip:x", "CPU"} {
		_, err := Device(name)
		require.ErrorIs(t, err, ErrDeviceName, name)
	}
}

// TestDeviceVar: a name that is none is found out when flags are parsed.
func TestDeviceVar(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // "" is refused
	}{
		{nil, "cpu"},
		{[]string{"-device", "reference"}, "reference"},
		{[]string{"-device", "hip"}, "hip"},
		{[]string{"-device", "hip:999"}, "hip:999"}, // there may be none: Device tells
		{[]string{"-device", "foo"}, ""},
		{[]string{"-device", "hip:x"}, ""},
		{[]string{"-device", ""}, ""},
	} {
		var name string
		var out bytes.Buffer
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(&out)
		DeviceVar(flags, &name)
		_, err := Parse(flags, c.args)
		if c.want == "" {
			require.ErrorContains(t, err, ErrDeviceName.Error(), "%q", c.args)
			require.Contains(t, out.String(), "for flag -device: want cpu, reference or hip[:n]")
			continue
		}
		require.NoError(t, err, "%q", c.args)
		require.Equal(t, c.want, name)
	}
	var out bytes.Buffer
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(&out)
	DeviceVar(flags, new(string))
	flags.PrintDefaults()
	require.Contains(t, out.String(), "-device device\n")
	require.Contains(t, out.String(), "(default cpu)")
}

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

func TestCompile(t *testing.T) {
	host := hip.NewHost()
	defer host.Close()
	require.NoError(t, Compile(t.Context(), io.Discard, host), "nothing to do")
	d := hiptest.Emulated(t, hiptest.Emulation{})
	require.NoError(t, Compile(t.Context(), io.Discard, d))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Compile(ctx, io.Discard, d), context.Canceled)
}

func TestProgressIsSilentInAPipe(t *testing.T) {
	var out bytes.Buffer
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
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	_, err := Parse(flags, []string{"a", "-wrong"})
	require.Error(t, err)
}

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteJSON(&out, map[string]any{"a<b": []int{1}}))
	require.Equal(t, "{\n  \"a<b\": [\n    1\n  ]\n}\n", out.String())
}
