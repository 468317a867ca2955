package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// sharedSeeds adds the headers or indexes of the reference data, where it is
// there: a module that go get has downloaded is without.
func sharedSeeds(f *testing.F, pattern string) {
	paths, err := filepath.Glob(filepath.Join("..", "..", "mtp", "testdata", "golden", pattern))
	require.NoError(f, err)
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil && len(data) < 1<<18 {
			f.Add(data)
		}
	}
}

// FuzzHeader: whatever the bytes are, opening them neither panics nor accepts a
// file whose tensors do not tile its data section.
func FuzzHeader(f *testing.F) {
	f.Add(sample)
	f.Add(rawFile("{}  ", ""))
	f.Add(rawFile(`{"__metadata__":{"a":"b"},"t":{"shape":[2,0],"data_offsets":[0,0],"dtype":"F4"}}`, ""))
	f.Add(rawFile(`{"t":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}`, "12345678"))
	f.Add(rawFile(`{"t":{"dtype":"U8","shape":[9223372036854775807,2],"data_offsets":[0,9223372036854775807]}}`, ""))
	f.Add(binary.LittleEndian.AppendUint64(nil, 1<<63))
	sharedSeeds(f, "*/*.safetensors")
	sharedSeeds(f, "broken/*/*.safetensors")
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := newFile("f", backing{r: bytes.NewReader(data)}, int64(len(data)))
		if err != nil {
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok, "%T: %v", err, err)
			require.Equal(t, "f", format.File)
			return
		}
		requireTiled(t, file)
		for _, tensor := range file.Tensors() {
			read, err := io.ReadAll(io.NewSectionReader(tensor, 0, tensor.Size()))
			require.NoError(t, err)
			require.Equal(t, data[tensor.Offset():][:tensor.Size()], read)
		}
	})
}

// FuzzHeaderText is FuzzHeader with the length in front of the header right.
func FuzzHeaderText(f *testing.F) {
	f.Add(`{"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"u":{"dtype":"F4","shape":[2],"data_offsets":[3,4]}}`, "abcd")
	f.Add(`{"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"t":{"dtype":"U8","shape":[],"data_offsets":[3,4]}}`, "abcd")
	f.Fuzz(func(t *testing.T, header, data string) {
		if file, err := open(rawFile(header, data)); err == nil {
			requireTiled(t, file)
		}
	})
}

// FuzzIndex: an index that parses names only files inside its folder.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"x.safetensors","b":"s/y.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../x"}}`))
	f.Add([]byte(`{"weight_map":{"a":"C:\\x","a":"\u002e\u002e/x"}}`))
	sharedSeeds(f, "*/*.index.json")
	sharedSeeds(f, "broken/*/*.index.json")
	f.Fuzz(func(t *testing.T, text []byte) {
		index, err := parseIndex("i", text)
		if err != nil {
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok)
			require.Equal(t, "i", format.File)
			return
		}
		for _, shard := range index.all() {
			require.True(t, filepath.IsLocal(filepath.FromSlash(shard)), shard)
			require.NotContains(t, shard, `\`)
		}
	})
}
