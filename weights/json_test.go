package weights

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// readJSON reads text as one value.
func readJSON(text string) error {
	r, err := newJSONReader([]byte(text))
	if err != nil {
		return err
	}
	if _, err := r.value(); err != nil {
		return err
	}
	return r.end()
}

func TestJSONAccepts(t *testing.T) {
	for _, text := range []string{
		`null`, ` true `, `false`, `0`, `-0`, `10.50`, `1e9`, `-1.5E-07`, `""`, `"a\"\\\/\b\f\n\r\t"`, `"\u00e9\ud83d\ude00"`,
		`[]`, `[ ]`, `{}`, `{ }`, "\t{\"a\" : [1, 2,{\"a\":null}],\r\n\"b\":\"é\"}\n", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
	} {
		require.NoError(t, readJSON(text), text)
		require.True(t, json.Valid([]byte(text)), text)
	}
}

func TestJSONRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ErrNotJSON},
		{"spaces", "  ", ErrNotJSON},
		{"NUL", "\x00", ErrNotJSON},
		{"two values", "1 2", ErrNotJSON},
		{"trailing comma in an array", "[1,]", ErrNotJSON},
		{"trailing comma in an object", `{"a":1,}`, ErrNotJSON},
		{"no comma", "[1 2]", ErrNotJSON},
		{"no colon", `{"a" 1}`, ErrNotJSON},
		{"no value", `{"a":}`, ErrNotJSON},
		{"key is no string", `{a:1}`, ErrNotJSON},
		{"open array", "[1", ErrNotJSON},
		{"open object", `{"a":1`, ErrNotJSON},
		{"open string", `"a`, ErrNotJSON},
		{"wrong bracket", "[1}", ErrNotJSON},
		{"leading zero", "01", ErrNotJSON},
		{"plus", "+1", ErrNotJSON},
		{"no digit", "-", ErrNotJSON},
		{"no fraction", "1.", ErrNotJSON},
		{"no exponent", "1e+", ErrNotJSON},
		{"no integer", ".5", ErrNotJSON},
		{"literal cut short", "tru", ErrNotJSON},
		{"literal too long", "nulls", ErrNotJSON},
		{"NaN", "NaN", ErrNotJSON},
		{"comment", "/**/1", ErrNotJSON},
		{"single quotes", "'a'", ErrNotJSON},
		{"control character", "\"a\nb\"", ErrNotJSON},
		{"unknown escape", `"\x"`, ErrNotJSON},
		{"escape at the end", `"\`, ErrNotJSON},
		{"short \\u", `"\u12"`, ErrNotJSON},
		{"sign in \\u", `"\u+123"`, ErrNotJSON},
		{"underscore in \\u", `"\u1_23"`, ErrNotJSON},
		{"high surrogate alone", `"\ud83d"`, ErrNotJSON},
		{"low surrogate alone", `"\ude00"`, ErrNotJSON},
		{"high surrogate and no low one", `"\ud83d\u0041"`, ErrNotJSON},
		{"nested too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), ErrNotJSON},
		{"not UTF-8", "\"\xff\"", ErrNotUTF8},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", ErrNotUTF8},
		{"key twice", `{"a":1,"a":1}`, ErrDuplicateKey},
		{"key twice in other spelling", `{"a":1,"\u0061":1}`, ErrDuplicateKey},
		{"key twice below", `[{"x":{"a":1,"b":2,"a":3}}]`, ErrDuplicateKey},
		{"key twice among many", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"e":1}`, ErrDuplicateKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := readJSON(test.text)
			require.ErrorIs(t, err, test.want)
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok)
			require.NotContains(t, format.Error(), "\n")
		})
	}
}

// FuzzJSON compares the reader with encoding/json: what it accepts is valid
// there and means the same, and what only it refuses is refused on purpose.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5e-3,true,null,"\u00e9\n"]}`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `[[[]]]`, ` -0 `} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := readJSON(string(text))
		if err == nil {
			require.True(t, json.Valid(text))
		} else if json.Valid(text) && utf8.Valid(text) && !errors.Is(err, ErrDuplicateKey) {
			onPurpose := strings.Contains(err.Error(), "surrogate") || strings.Contains(err.Error(), "nested")
			require.True(t, onPurpose, "%v", err)
		}
		r := &jsonReader{data: text}
		if s, err := r.string(); err == nil && utf8.Valid(text) {
			var want string
			require.NoError(t, json.Unmarshal(text[:r.pos], &want))
			require.Equal(t, want, s)
		}
	})
}
