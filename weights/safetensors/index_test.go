package safetensors

import (
	"errors"
	"io/fs"
	"maps"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

func TestIndexAccepts(t *testing.T) {
	text := " {\"metadata\":{\"total_size\":12.5,\"more\":[null]}, \"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"sub/y.safetensors\"},\"other\":true}\n"
	index, err := readIndex(fstest.MapFS{indexName: {Data: []byte(text)}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "x.safetensors", "b": "sub/y.safetensors"}, maps.Collect(index.all()))
}

func TestIndexRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		want       error
	}{
		{"empty", "", ruleNotObject},
		{"not JSON", "{not json", ruleNotJSON},
		{"cut short", `{"weight_map":{"a":"x"`, ruleNotJSON},
		{"two objects", `{"weight_map":{}}{}`, ruleNotJSON},
		{"not UTF-8", "{\"weight_map\":{\"\xff\":\"x\"}}", ruleNotUTF8},
		{"array", `[]`, ruleNotObject},
		{"no weight_map", `{"metadata":{}}`, ruleMissingKey},
		{"weight_map is null", `{"weight_map":null}`, ruleNotObject},
		{"weight_map is a list", `{"weight_map":["x"]}`, ruleNotObject},
		{"weight_map twice", `{"weight_map":{},"weight_map":{}}`, ruleDuplicateKey},
		{"tensor twice", `{"weight_map":{"a":"x","a":"y"}}`, ruleDuplicateKey},
		{"shard is a number", `{"weight_map":{"a":1}}`, ruleNotString},
		{"shard is null", `{"weight_map":{"a":null}}`, ruleNotString},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := readIndex(fstest.MapFS{indexName: {Data: []byte(test.text)}})
			require.ErrorIs(t, err, test.want)
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok)
			require.Equal(t, indexName, format.File)
		})
	}
	_, err := readIndex(fstest.MapFS{})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestIndexIsTooLarge(t *testing.T) {
	_, err := parseIndex("i", make([]byte, maxIndexLength+1))
	require.ErrorIs(t, err, ruleIndexTooLarge)
}

func TestShardPaths(t *testing.T) {
	for _, path := range []string{"x", "model-00001-of-00002.safetensors", "sub/x.safetensors", "..x", "x..", "é.safetensors", "a b"} {
		require.True(t, isShardPath(path), path)
	}
	for _, path := range []string{
		"", ".", "..", "/", "/x", "//x", "../x", "a/../x", "a/..", "./x", "a//x", "a/",
		`a\x`, `..\x`, `\\host\x`, "C:x", "C:/x", `C:\x`, "x:stream", "a\nb", "a\x00", "a\u202eb",
	} {
		t.Run(path, func(t *testing.T) {
			require.False(t, isShardPath(path))
			_, err := parseIndex("i", []byte(`{"weight_map":{"t":`+quoteJSON(path)+`}}`))
			require.ErrorIs(t, err, ruleShardPath)
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok)
			require.Equal(t, "t", format.Tensor)
			require.Contains(t, err.Error(), strconv.Quote(path))
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// quoteJSON quotes s, which Go would with escapes that JSON lacks.
func quoteJSON(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\x00", `\u0000`).Replace(s) + `"`
}

func TestIndexReportsAllProblems(t *testing.T) {
	_, err := parseIndex("i", []byte(`{"weight_map":{"b":"../y","a":"/x","c":3,"d":"ok"}}`))
	require.Equal(t, []string{
		`safetensors: i: key "weight_map.c": value is not a string: got 3 at line 1, column 40`,
		`safetensors: i: tensor "a": shard path leaves the folder: got "/x"`,
		`safetensors: i: tensor "b": shard path leaves the folder: got "../y"`,
	}, strings.Split(err.Error(), "\n"))
}
