package safetensors

import (
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// strange are texts that a terminal acts on, or that are not valid UTF-8.
var strange = []string{"\x1b[2J", "\r", "\nloads: 5 parameters", "\x7f", "\u009b31m", "\u202eevil", "\u2066x", "\xff\xfe", "\x00", "\u2028"}

func requirePlain(t *testing.T, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text), "%q", text)
	for _, c := range text {
		require.True(t, strconv.IsPrint(c), "%q", text)
	}
}

func TestPrintable(t *testing.T) {
	for _, text := range []string{"", "model.mtp.layers.0.enorm.weight", "a b", "größe", "模型"} {
		require.Equal(t, text, Printable(text))
		require.Equal(t, text, escape(text))
	}
	for _, text := range strange {
		requirePlain(t, Printable("x"+text))
		requirePlain(t, escape("x"+text))
		require.NotEqual(t, text, Printable(text))
	}
	require.Equal(t, `"a\"b"`, Printable(`a"b`), "nothing passes for what is quoted")
	long := Printable(strings.Repeat("ü", 10_000))
	require.Less(t, len(long), 300)
	require.Contains(t, long, "20000 bytes")
	requirePlain(t, long)
	require.Equal(t, `\xff\u202e\n`, escape("\xff\u202e\n"))
}

// TestErrorsPrintNothingStrange: names of files and tensors, keys, values and metadata
// from files are escaped in what is printed of them.
func TestErrorsPrintNothingStrange(t *testing.T) {
	for _, s := range strange {
		valid := strings.ToValidUTF8(s, "\u202d")
		key := quoteAll(valid)
		header := func(text string) []byte { return rawFile(text, "") }
		for what, fsys := range map[string]fstest.MapFS{
			"name of a file":      {"a" + s + ".safetensors": {Data: []byte("1234")}},
			"two names of files":  {"a" + s + ".safetensors": {Data: sample}, "b" + s + ".safetensors": {Data: sample}},
			"name of a tensor":    {"a.safetensors": {Data: header(`{` + key + `:{"dtype":"Q9","shape":[-1],"data_offsets":[0,0]}}`)}},
			"key of a tensor":     {"a.safetensors": {Data: header(`{"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],` + key + `:1}}`)}},
			"dtype":               {"a.safetensors": {Data: header(`{"t":{"dtype":` + key + `,"shape":[0],"data_offsets":[0,0]}}`)}},
			"a value":             {"a.safetensors": {Data: header(`{"t":` + key + `}`)}},
			"metadata":            {"a.safetensors": {Data: header(`{"__metadata__":{` + key + `:[` + key + `]}}`)}},
			"metadata twice":      {"a.safetensors": {Data: header(`{"__metadata__":{` + key + `:"",` + key + `:""}}`)}},
			"tensor in the index": {"a.safetensors": {Data: sample}, indexName: {Data: []byte(`{"weight_map":{` + key + `:"a.safetensors"}}`)}},
			"shard in the index":  {"a.safetensors": {Data: sample}, indexName: {Data: []byte(`{"weight_map":{"a":` + key + `}}`)}},
			"key of the index":    {"a.safetensors": {Data: sample}, indexName: {Data: []byte(`{` + key + `:1,` + key + `:2}`)}},
		} {
			_, err := OpenFolder(fsys, nil)
			require.Error(t, err, what)
			for line := range strings.SplitSeq(err.Error(), "\n") {
				requirePlain(t, line)
				require.True(t, strings.HasPrefix(line, "safetensors: "), "%s: %q", what, line)
			}
		}
	}
}

// quoteAll writes s as JSON, raw where JSON allows that.
func quoteAll(s string) string {
	var b strings.Builder
	for _, c := range s {
		if c < ' ' {
			b.WriteString(`\u00` + strconv.FormatInt(int64(c)+0x100, 16)[1:])
		} else {
			b.WriteRune(c)
		}
	}
	return `"` + b.String() + `"`
}
