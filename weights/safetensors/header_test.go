package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func open(data []byte) (*File, error) {
	return newFile("x.safetensors", backing{r: bytes.NewReader(data)}, int64(len(data)))
}

func TestHeaderRefuses(t *testing.T) {
	const tensor = `"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}`
	entry := func(dtype, shape, offsets string) string {
		return `{"t":{"dtype":` + dtype + `,"shape":` + shape + `,"data_offsets":` + offsets + `}}`
	}
	two := func(begin1, end1, begin2, end2 int) string {
		return "{" + tensorJSON("t", "U8", []int{end1 - begin1}, begin1, end1) + "," +
			tensorJSON("u", "U8", []int{end2 - begin2}, begin2, end2) + "}"
	}
	length := func(n uint64) []byte {
		file := rawFile("{}", "")
		for i := range 8 {
			file[i] = byte(n >> (8 * i))
		}
		return file
	}
	tests := []struct {
		name   string
		file   []byte
		want   error
		tensor string
	}{
		{"empty file", nil, ruleFileTooSmall, ""},
		{"seven bytes", make([]byte, 7), ruleFileTooSmall, ""},
		{"length over the cap", length(maxHeaderLength + 1), ruleHeaderTooLarge, ""},
		{"length 2^63", length(1 << 63), ruleHeaderTooLarge, ""},
		{"length 2^64-1", length(math.MaxUint64), ruleHeaderTooLarge, ""},
		{"length of 2^64-8, which wraps", length(math.MaxUint64 - 7), ruleHeaderTooLarge, ""},
		{"length over the file by one", length(3), ruleHeaderTruncated, ""},
		{"length at the cap", length(maxHeaderLength), ruleHeaderTruncated, ""},

		{"not UTF-8", rawFile("{\"\xff\":1}", ""), ruleNotUTF8, ""},
		{"empty header", rawFile("", ""), ruleNotObject, ""},
		{"space before the object", rawFile(" {}", ""), ruleNotObject, ""},
		{"byte order mark", rawFile("\ufeff{}", ""), ruleNotObject, ""},
		{"array", rawFile("[]", ""), ruleNotObject, ""},
		{"not JSON", rawFile("{not json}", ""), ruleNotJSON, ""},
		{"padded with NUL", rawFile("{}\x00\x00", ""), ruleNotJSON, ""},
		{"text after the object", rawFile("{}{}", ""), ruleNotJSON, ""},
		{"cut short", rawFile(`{"t":{"dtype":"U8"`, ""), ruleNotJSON, "t"},
		{"tensor twice", rawFile("{"+tensor+","+tensor+"}", "ab"), ruleDuplicateKey, ""},
		{"dtype twice", rawFile(`{"t":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "ab"), ruleDuplicateKey, "t"},
		{"shape twice", rawFile(`{"t":{"dtype":"U8","shape":[2],"shape":[2],"data_offsets":[0,2]}}`, "ab"), ruleDuplicateKey, "t"},
		{"data_offsets twice", rawFile(`{"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"data_offsets":[0,2]}}`, "ab"), ruleDuplicateKey, "t"},
		{"metadata twice", rawFile(`{"__metadata__":{},"__metadata__":{}}`, ""), ruleDuplicateKey, ""},
		{"metadata key twice", rawFile(`{"__metadata__":{"a":"1","a":"1"}}`, ""), ruleDuplicateKey, ""},
		{"metadata is a list", rawFile(`{"__metadata__":[]}`, ""), ruleNotObject, ""},
		{"metadata is a number", rawFile(`{"__metadata__":1}`, ""), ruleNotObject, ""},
		{"metadata is NaN", rawFile(`{"__metadata__":NaN}`, ""), ruleNotObject, ""},
		{"byte order mark", rawFile("\ufeff{}", ""), ruleNotObject, ""},
		{"metadata holds a number", rawFile(`{"__metadata__":{"a":1}}`, ""), ruleNotString, ""},
		{"metadata holds null", rawFile(`{"__metadata__":{"a":null}}`, ""), ruleNotString, ""},

		{"tensor is a string", rawFile(`{"t":"U8"}`, ""), ruleNotObject, "t"},
		{"no dtype", rawFile(`{"t":{"shape":[2],"data_offsets":[0,2]}}`, "ab"), ruleMissingKey, "t"},
		{"no shape", rawFile(`{"t":{"dtype":"U8","data_offsets":[0,2]}}`, "ab"), ruleMissingKey, "t"},
		{"no data_offsets", rawFile(`{"t":{"dtype":"U8","shape":[2]}}`, "ab"), ruleMissingKey, "t"},
		{"unknown key", rawFile(`{"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2],"stride":[1]}}`, "ab"), ruleUnknownKey, "t"},
		{"key in another case", rawFile(`{"t":{"Dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, "ab"), ruleUnknownKey, "t"},
		{"unknown dtype", rawFile(entry(`"Q9"`, "[2]", "[0,2]"), "ab"), ruleUnknownDtype, "t"},
		{"dtype in lower case", rawFile(entry(`"u8"`, "[2]", "[0,2]"), "ab"), ruleUnknownDtype, "t"},
		{"dtype is a number", rawFile(entry("8", "[2]", "[0,2]"), "ab"), ruleUnknownDtype, "t"},

		{"negative dimension", rawFile(entry(`"U8"`, "[-1,-2]", "[0,2]"), "ab"), ruleShape, "t"},
		{"negative zero", rawFile(entry(`"U8"`, "[-0]", "[0,0]"), ""), ruleShape, "t"},
		{"fraction in the shape", rawFile(entry(`"U8"`, "[2.0]", "[0,2]"), "ab"), ruleShape, "t"},
		{"exponent in the shape", rawFile(entry(`"U8"`, "[2e0]", "[0,2]"), "ab"), ruleShape, "t"},
		{"string in the shape", rawFile(entry(`"U8"`, `["2"]`, "[0,2]"), "ab"), ruleShape, "t"},
		{"list in the shape", rawFile(entry(`"U8"`, `[[2]]`, "[0,2]"), "ab"), ruleShape, "t"},
		{"shape is a number", rawFile(entry(`"U8"`, "2", "[0,2]"), "ab"), ruleShape, "t"},
		{"shape is null", rawFile(entry(`"U8"`, "null", "[0,2]"), "ab"), ruleShape, "t"},
		{"dimension 2^63", rawFile(entry(`"U8"`, "[9223372036854775808]", "[0,2]"), "ab"), ruleSizeOverflow, "t"},
		{"dimension 2^64", rawFile(entry(`"U8"`, "[18446744073709551616]", "[0,0]"), ""), ruleSizeOverflow, "t"},

		{"one offset", rawFile(entry(`"U8"`, "[2]", "[2]"), "ab"), ruleOffsets, "t"},
		{"three offsets", rawFile(entry(`"U8"`, "[2]", "[0,1,2]"), "ab"), ruleOffsets, "t"},
		{"offsets are not a list", rawFile(entry(`"U8"`, "[2]", `{"begin":0,"end":2}`), "ab"), ruleOffsets, "t"},
		{"negative offset", rawFile(entry(`"U8"`, "[2]", "[-2,0]"), "ab"), ruleOffsets, "t"},
		{"fraction in the offsets", rawFile(entry(`"U8"`, "[2]", "[0,2.0]"), "ab"), ruleOffsets, "t"},
		{"offset 2^63", rawFile(entry(`"U8"`, "[2]", "[0,9223372036854775808]"), "ab"), ruleOffsets, "t"},
		{"reversed offsets", rawFile(entry(`"U8"`, "[2]", "[2,0]"), "ab"), ruleOffsets, "t"},

		{"elements overflow to 0", rawFile(entry(`"U8"`, "[4294967296,4294967296]", "[0,0]"), ""), ruleSizeOverflow, "t"},
		{"elements over 2^63", rawFile(entry(`"U8"`, "[4294967296,2147483648]", "[0,0]"), ""), ruleSizeOverflow, "t"},
		{"bytes beside a 0", rawFile(entry(`"U8"`, "[0,4294967296,4294967296]", "[0,1]"), "a"), ruleSizeMismatch, "t"},
		{"bits overflow", rawFile(entry(`"F32"`, "[576460752303423488]", "[0,0]"), ""), ruleSizeOverflow, "t"},
		{"odd number of F4", rawFile(entry(`"F4"`, "[3]", "[0,2]"), "ab"), rulePartialByte, "t"},
		{"two F6", rawFile(entry(`"F6_E2M3"`, "[2]", "[0,2]"), "ab"), rulePartialByte, "t"},
		{"range too small", rawFile(entry(`"F32"`, "[1]", "[0,2]"), "ab"), ruleSizeMismatch, "t"},
		{"range too large", rawFile(entry(`"U8"`, "[1]", "[0,2]"), "ab"), ruleSizeMismatch, "t"},
		{"range for an empty tensor", rawFile(entry(`"U8"`, "[0]", "[0,2]"), "ab"), ruleSizeMismatch, "t"},
		{"no range for a scalar", rawFile(entry(`"U8"`, "[]", "[0,0]"), ""), ruleSizeMismatch, "t"},

		{"hole at the start", rawFile(entry(`"U8"`, "[2]", "[1,3]"), "abc"), ruleHole, "t"},
		{"hole between tensors", rawFile(two(0, 2, 3, 4), "abcd"), ruleHole, "u"},
		{"hole before an empty tensor", rawFile(two(0, 2, 3, 3), "abc"), ruleHole, "u"},
		{"overlap", rawFile(two(0, 3, 2, 4), "abcd"), ruleOverlap, "u"},
		{"one inside the other", rawFile(two(0, 4, 1, 2), "abcd"), ruleOverlap, "u"},
		{"same range twice", rawFile(two(0, 2, 0, 2), "ab"), ruleOverlap, "u"},
		{"empty tensor inside another", rawFile(two(0, 4, 2, 2), "abcd"), ruleOverlap, "u"},
		{"past the end", rawFile(entry(`"U8"`, "[3]", "[0,3]"), "ab"), ruleTruncated, "t"},
		{"far past the end", rawFile(entry(`"U8"`, "[9223372036854775]", "[0,9223372036854775]"), "ab"), ruleTruncated, "t"},
		{"no data", rawFile(two(0, 2, 2, 4), ""), ruleTruncated, "t"},
		{"trailing byte", rawFile("{"+tensor+"}", "abc"), ruleTrailingBytes, ""},
		{"data without a tensor", rawFile("{}", "a"), ruleTrailingBytes, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := open(test.file)
			require.Nil(t, f)
			require.ErrorIs(t, err, test.want)
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok, "%T", err)
			require.Equal(t, "x.safetensors", format.File)
			require.Equal(t, test.tensor, format.Tensor)
			require.Equal(t, test.want, format.Rule, "the first problem")
			require.NotContains(t, err.Error(), "\n", "a single problem")
			require.Contains(t, err.Error(), test.want.Error())
			require.Less(t, len(err.Error()), 400)
		})
	}
}

func TestHeaderAccepts(t *testing.T) {
	tests := []struct {
		name  string
		file  []byte
		names []string // in data order
	}{
		{"no tensor", rawFile("{}", ""), nil},
		{"padded", rawFile("{}      ", ""), nil},
		{"no tensor but metadata", rawFile(`{"__metadata__":{"format":"pt"}}`, ""), nil},
		{"metadata is null", rawFile(`{"__metadata__": null,`+tensorJSON("t", "U8", []int{1}, 0, 1)+"}", "a"), []string{"t"}},
		{"a zero among large dimensions", rawFile("{"+tensorJSON("t", "F32", []int{1 << 30, 0, 1 << 30, 4}, 0, 0)+"}", ""), []string{"t"}},
		{"scalar", buildFile(part{"t", F32, nil, "abcd"}), []string{"t"}},
		{"odd starts", buildFile(bytePart("t", "abc"), part{"u", "F64", []int{1}, "12345678"}), []string{"t", "u"}},
		{"empty tensors anywhere", buildFile(
			part{"b", F32, []int{0}, ""}, part{"a", "I64", []int{3, 0}, ""}, bytePart("t", "abc"),
			part{"z", F32, []int{0, 7}, ""}), []string{"a", "b", "t", "z"}},
		{"header not in data order", rawFile("{"+tensorJSON("late", "U8", []int{1}, 2, 3)+","+tensorJSON("early", "U8", []int{2}, 0, 2)+"}", "abc"),
			[]string{"early", "late"}},
		{"F4 pairs and F6 quads", buildFile(part{"f4", "F4", []int{3, 2}, "abc"}, part{"f6", "F6_E3M2", []int{2, 2}, "abc"}), []string{"f4", "f6"}},
		{"names with escapes and spaces", buildFile(bytePart("é \"\n", "a")), []string{"é \"\n"}},
		{"empty name", buildFile(bytePart("", "a")), []string{""}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := open(test.file)
			require.NoError(t, err)
			var names []string
			for _, tensor := range f.Tensors() {
				names = append(names, tensor.Name)
			}
			require.Equal(t, test.names, names)
			requireTiled(t, f)
		})
	}
}

// requireTiled asserts what every accepted file fulfils: the tensors tile the
// data section, and each has the size of its dtype and shape.
func requireTiled(t *testing.T, f *File) {
	t.Helper()
	at := f.dataStart
	for _, tensor := range f.Tensors() {
		require.Equal(t, at, tensor.Offset())
		elements := 1
		for _, d := range tensor.Shape {
			require.GreaterOrEqual(t, d, 0)
			elements *= d
		}
		require.Equal(t, int64(elements)*int64(tensor.Dtype.Bits()), tensor.Size()*8)
		found, ok := f.Tensor(tensor.Name)
		require.True(t, ok)
		require.Same(t, tensor, found)
		require.Same(t, f, tensor.File())
		at += tensor.Size()
	}
	require.Equal(t, f.size, at)
}

func TestHeaderReportsAllProblems(t *testing.T) {
	header := `{"__metadata__":{"n":1},"a":{"dtype":"Q9","shape":[-1],"data_offsets":[2,0],"x":0},"b":{"dtype":"U8"},"c":7}`
	_, err := open(rawFile(header, ""))
	for _, want := range []error{ruleNotString, ruleUnknownDtype, ruleShape, ruleOffsets, ruleUnknownKey, ruleMissingKey, ruleNotObject} {
		require.ErrorIs(t, err, want)
	}
	require.Equal(t, []string{
		`safetensors: x.safetensors: key "__metadata__.n": value is not a string: got 1 at line 1, column 22`,
		`safetensors: x.safetensors: tensor "a": unknown dtype: got "Q9", want a safetensors dtype`,
		`safetensors: x.safetensors: tensor "a": invalid shape: got [-1], want a list of non-negative integers`,
		`safetensors: x.safetensors: tensor "a": invalid data_offsets: got [2,0], want [begin, end] with 0 <= begin <= end`,
		`safetensors: x.safetensors: tensor "a": unknown key: got "x", want dtype, shape and data_offsets`,
		`safetensors: x.safetensors: tensor "b": missing key, want shape`,
		`safetensors: x.safetensors: tensor "b": missing key, want data_offsets`,
		`safetensors: x.safetensors: tensor "c": value is not a JSON object: got 7, want {"dtype", "shape", "data_offsets"}`,
	}, strings.Split(err.Error(), "\n"))

	layout := "{" + tensorJSON("a", "U8", []int{2}, 0, 2) + "," + tensorJSON("b", "F32", []int{2}, 3, 6) + "," + tensorJSON("c", "U8", []int{9}, 5, 14) + "}"
	_, err = open(rawFile(layout, "0123456789"))
	require.Equal(t, []string{
		`safetensors: x.safetensors: tensor "b": hole in the data before the tensor: got begin 3, want 2`,
		`safetensors: x.safetensors: tensor "b": data_offsets do not fit dtype and shape: got 3 bytes, want 8 bytes for F32 of shape [2]`,
		`safetensors: x.safetensors: tensor "c": tensor overlaps the one before it: got begin 5, want 6`,
		`safetensors: x.safetensors: tensor "c": file is cut short: got 10 bytes of data, want 14`,
	}, strings.Split(err.Error(), "\n"))
}

func TestHeaderBoundsItsMessages(t *testing.T) {
	var many []string
	for i := range 3 * maxProblems {
		many = append(many, strconv.Quote(strconv.Itoa(i))+":0")
	}
	_, err := open(rawFile("{"+strings.Join(many, ",")+"}", ""))
	require.ErrorIs(t, err, ruleMoreProblems)
	require.Contains(t, err.Error(), "more problems: got 200")
	require.Equal(t, maxProblems, strings.Count(err.Error(), "\n"))

	long := strings.Repeat("x", 1<<20)
	_, err = open(rawFile(`{"`+long+`":{"dtype":"`+long+`","shape":[],"data_offsets":[0,0]}}`, ""))
	require.ErrorIs(t, err, ruleUnknownDtype)
	require.Less(t, len(err.Error()), 1000)
}

func TestHeaderMetadata(t *testing.T) {
	f, err := open(rawFile(`{"__metadata__":{"format":"pt","é":""}}`, ""))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"format": "pt", "é": ""}, f.Metadata())
	f, err = open(rawFile("{}", ""))
	require.NoError(t, err)
	require.Nil(t, f.Metadata())
}

// largeHeader returns a file of n tensors.
func largeHeader(n int) []byte {
	parts := make([]part, n)
	for i := range parts {
		name := fmt.Sprintf("model.mtp.layers.%d.transformer_layer.block_sparse_moe.experts.%d.w1.weight", i/128, i%128)
		parts[i] = part{name, BF16, []int{1, 2}, "abcd"}
	}
	return buildFile(parts...)
}

func TestHeaderOfManyTensors(t *testing.T) {
	f, err := open(largeHeader(50_000))
	require.NoError(t, err)
	require.Len(t, f.Tensors(), 50_000)
	requireTiled(t, f)
}

func BenchmarkHeader(b *testing.B) {
	data := largeHeader(50_000)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		_, err := open(data)
		require.NoError(b, err)
	}
}
