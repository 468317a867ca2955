package cli

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDevice(t *testing.T) {
	for name, kind := range map[string]string{"cpu": "cpu", "reference": "reference"} {
		d, err := Device(name)
		require.NoError(t, err)
		require.Equal(t, kind, d.Info().Kind)
		require.NoError(t, d.Close())
	}
	for _, name := range []string{"hip", "hip:0", "hip:3"} {
		_, err := Device(name)
		require.ErrorIs(t, err, ErrNoGPU, name)
	}
	for _, name := range []string{"", "gpu", "cpu:1", "hip:", "hip:-1", "hip:x", "CPU"} {
		_, err := Device(name)
		require.ErrorContains(t, err, "want cpu, reference or hip[:n]", name)
	}
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

func TestWriteJSON(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteJSON(&out, map[string]any{"a<b": []int{1}}))
	require.Equal(t, "{\n  \"a<b\": [\n    1\n  ]\n}\n", out.String())
}
