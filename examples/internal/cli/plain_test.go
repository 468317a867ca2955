package cli

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPlain: what a terminal would act on is written escaped.
func TestPlain(t *testing.T) {
	var out bytes.Buffer
	w := Plain(Plain(&out))
	text := "é 漢 × \"a\"\n\tb\x1b[2J\r\x00\x7f\u0085\u202e\u2028\ufeff\xff\U000e0001"
	n, err := w.Write([]byte(text))
	require.NoError(t, err)
	require.Equal(t, len(text), n)
	require.Equal(t, "é 漢 × \"a\"\n\tb\\x1b[2J\\r\\x00\\x7f\\u0085\\u202e\\u2028\\ufeff\\xff\\U000e0001", out.String())

	out.Reset()
	value := map[string]string{"a\x1b\u202e": "\x7f\u0085 é\U000e0001\n"}
	require.NoError(t, WriteJSON(w, value))
	require.Equal(t, "{\n  \"a\\u001b\\u202e\": \"\\u007f\\u0085 é\\udb40\\udc01\\n\"\n}\n", out.String())
	var got map[string]string
	require.NoError(t, json.Unmarshal(out.Bytes(), &got))
	require.Equal(t, value, got)
}
