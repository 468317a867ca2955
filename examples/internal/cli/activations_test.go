package cli

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

func TestActivations(t *testing.T) {
	parse := func(args ...string) (a hip.Activations, err error) {
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		Activations(flags, &a)
		err = flags.Parse(args)
		return a, err
	}
	a, err := parse()
	require.NoError(t, err)
	require.Equal(t, hip.ActivationsExact, a)
	for text, want := range map[string]hip.Activations{"exact": hip.ActivationsExact, "mxfp8": hip.ActivationsMXFP8} {
		a, err = parse("-activations", text)
		require.NoError(t, err)
		require.Equal(t, want, a)
	}
	_, err = parse("-activations", "fp8")
	require.ErrorContains(t, err, `"fp8" for flag -activations: want exact or mxfp8`)
	require.Equal(t, "Activations(7)", hip.Activations(7).String())
}
