package cli

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/attention"
)

func TestCache(t *testing.T) {
	parse := func(args ...string) (format attention.CacheFormat, err error) {
		format = attention.CacheF32
		flags := flag.NewFlagSet("test", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		Cache(flags, &format, "default: f32")
		err = flags.Parse(args)
		return format, err
	}
	format, err := parse()
	require.NoError(t, err)
	require.Equal(t, attention.CacheF32, format)
	for text, want := range cacheFormats {
		format, err = parse("-cache", text)
		require.NoError(t, err)
		require.Equal(t, want, format)
	}
	_, err = parse("-cache", "FP9")
	require.ErrorContains(t, err, `"FP9" for flag -cache: want bf16, f32, fp8 or fp8-index`)
}
