package cli

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/hip"
)

func TestActivations(t *testing.T) {
	parse := func(args ...string) (a, drafts hip.Activations, err error) {
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		Activations(flags, &a, &drafts)
		err = flags.Parse(args)
		return a, drafts, err
	}
	a, drafts, err := parse()
	require.NoError(t, err)
	require.Equal(t, hip.ActivationsExact, a)
	require.Equal(t, hip.ActivationsExact, drafts)
	for text, want := range map[string]hip.Activations{"exact": hip.ActivationsExact, "mxfp8": hip.ActivationsMXFP8} {
		a, drafts, err = parse("-activations", text)
		require.NoError(t, err)
		require.Equal(t, want, a)
		require.Zero(t, drafts)
	}
	for text, want := range map[string]hip.Activations{"exact": hip.ActivationsExact, "bf16x2": hip.ActivationsBF16x2, "bf16": hip.ActivationsBF16} {
		a, drafts, err = parse("-draft-activations", text)
		require.NoError(t, err)
		require.Equal(t, want, drafts)
		require.Zero(t, a)
	}
	_, _, err = parse("-activations", "fp8")
	require.ErrorContains(t, err, `"fp8" for flag -activations: want exact or mxfp8`)
	_, _, err = parse("-draft-activations", "mxfp8")
	require.ErrorContains(t, err, `"mxfp8" for flag -draft-activations: want exact, bf16x2 or bf16`)
	require.Equal(t, "Activations(7)", hip.Activations(7).String())
}
