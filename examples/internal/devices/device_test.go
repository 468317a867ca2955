package devices

import (
	"bytes"
	"context"
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/examples/internal/cli"
	"github.com/drafthead/drafthead/hip"
	"github.com/drafthead/drafthead/hip/hiptest"
)

func TestOpen(t *testing.T) {
	for name, kind := range map[string]string{"cpu": "cpu", "cpu:bf16": "cpu", "cpu:bf16x2": "cpu", "reference": "reference"} {
		d, err := Open(name)
		require.NoError(t, err)
		require.Equal(t, kind, d.Info().Kind)
		require.NoError(t, d.Close())
	}
	_, err := Open("hip:999")
	require.ErrorIs(t, err, hip.ErrNoDevice)
	require.NotContains(t, err.Error(), "\n", "one line")
	for _, name := range []string{"hip", "hip:0"} {
		if d, err := Open(name); err == nil {
			require.True(t, d.Info().IsGPU())
			require.NoError(t, d.Close())
		} else {
			require.ErrorIs(t, err, hip.ErrNoDevice)
		}
	}
	for _, name := range []string{"", "gpu", "cpu:1", "cpu:", "cpu:exact", "cpu:mxfp8", "reference:bf16", "hip:", "hip:-1", "hip:x", "CPU"} {
		_, err := Open(name)
		require.ErrorIs(t, err, ErrName, name)
	}
}

// TestVar: parsing flags refuses a name that no device has.
func TestVar(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string // "" is refused
	}{
		{nil, "cpu"},
		{[]string{"-device", "reference"}, "reference"},
		{[]string{"-device", "cpu:bf16"}, "cpu:bf16"},
		{[]string{"-device", "hip"}, "hip"},
		{[]string{"-device", "hip:999"}, "hip:999"}, // there may be none: Open finds out
		{[]string{"-device", "foo"}, ""},
		{[]string{"-device", "hip:x"}, ""},
		{[]string{"-device", ""}, ""},
	} {
		var name string
		var out bytes.Buffer
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(&out)
		Var(flags, &name)
		_, err := cli.Parse(flags, c.args)
		if c.want == "" {
			require.ErrorContains(t, err, ErrName.Error(), "%q", c.args)
			require.Contains(t, out.String(), "for flag -device: want cpu[:bf16x2|bf16], reference or hip[:n]")
			continue
		}
		require.NoError(t, err, "%q", c.args)
		require.Equal(t, c.want, name)
	}
	var out bytes.Buffer
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(&out)
	Var(flags, new(string))
	flags.PrintDefaults()
	require.Contains(t, out.String(), "-device device\n")
	require.Contains(t, out.String(), "(default cpu)")
}

func TestCompile(t *testing.T) {
	host := hip.NewHost()
	defer host.Close()
	require.NoError(t, Compile(t.Context(), io.Discard, host), "nothing to do")
	d, err := hip.Open(0, hiptest.NewEmulator(t, "hip", 0).Options())
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	require.NoError(t, Compile(t.Context(), io.Discard, d))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Compile(ctx, io.Discard, d), context.Canceled)
}
