package safetensors

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"
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

// decodeJSON is what encoding/json makes of text.
func decodeJSON(t *testing.T, text string) (value any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&value))
	return value
}

func TestJSONAccepts(t *testing.T) {
	for _, text := range []string{
		`null`, ` true `, `false`, `0`, `-0`, `10.50`, `1e9`, `-1.5E-07`, `""`, `"a\"\\\/\b\f\n\r\t"`, `"\u00e9\ud83d\ude00"`,
		`[]`, `[ ]`, `{}`, `{ }`, "\t{\"a\" : [1, 2,{\"a\":null}],\r\n\"b\":\"é\"}\n", strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth),
	} {
		require.NoError(t, readJSON(text), text)
		require.True(t, json.Valid([]byte(text)), text)
		value, err := parseJSON([]byte(text))
		require.NoError(t, err)
		require.Equal(t, decodeJSON(t, text), value)
	}
}

func TestJSONRefuses(t *testing.T) {
	tests := []struct {
		name, text string
		want       error
	}{
		{"nothing", "", ruleNotJSON},
		{"spaces", "  ", ruleNotJSON},
		{"NUL", "\x00", ruleNotJSON},
		{"two values", "1 2", ruleNotJSON},
		{"trailing comma in an array", "[1,]", ruleNotJSON},
		{"trailing comma in an object", `{"a":1,}`, ruleNotJSON},
		{"no comma", "[1 2]", ruleNotJSON},
		{"no colon", `{"a" 1}`, ruleNotJSON},
		{"no value", `{"a":}`, ruleNotJSON},
		{"key is not a string", `{a:1}`, ruleNotJSON},
		{"open array", "[1", ruleNotJSON},
		{"open object", `{"a":1`, ruleNotJSON},
		{"open string", `"a`, ruleNotJSON},
		{"wrong bracket", "[1}", ruleNotJSON},
		{"leading zero", "01", ruleNotJSON},
		{"plus", "+1", ruleNotJSON},
		{"no digit", "-", ruleNotJSON},
		{"no fraction", "1.", ruleNotJSON},
		{"no exponent", "1e+", ruleNotJSON},
		{"no integer", ".5", ruleNotJSON},
		{"literal cut short", "tru", ruleNotJSON},
		{"literal too long", "nulls", ruleNotJSON},
		{"number by another name", "nan", ruleNotJSON},
		{"infinity by another name", "-inf", ruleNotJSON},
		{"comment", "/**/1", ruleNotJSON},
		{"single quotes", "'a'", ruleNotJSON},
		{"control character", "\"a\nb\"", ruleNotJSON},
		{"unknown escape", `"\x"`, ruleNotJSON},
		{"escape at the end", `"\`, ruleNotJSON},
		{"short \\u", `"\u12"`, ruleNotJSON},
		{"sign in \\u", `"\u+123"`, ruleNotJSON},
		{"underscore in \\u", `"\u1_23"`, ruleNotJSON},
		{"high surrogate alone", `"\ud83d"`, ruleNotJSON},
		{"low surrogate alone", `"\ude00"`, ruleNotJSON},
		{"high surrogate and no low one", `"\ud83d\u0041"`, ruleNotJSON},
		{"nested too deep", strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1), ruleNotJSON},
		{"not UTF-8", "\"\xff\"", ruleNotUTF8},
		{"surrogate in UTF-8", "\"\xed\xa0\x80\"", ruleNotUTF8},
		{"key twice", `{"a":1,"a":1}`, ruleDuplicateKey},
		{"key twice in other spelling", `{"a":1,"\u0061":1}`, ruleDuplicateKey},
		{"key twice below", `[{"x":{"a":1,"b":2,"a":3}}]`, ruleDuplicateKey},
		{"key twice among many", `{"a":1,"b":1,"c":1,"d":1,"e":1,"f":1,"e":1}`, ruleDuplicateKey},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := readJSON(test.text)
			require.ErrorIs(t, err, test.want)
			format, ok := errors.AsType[*FormatError](err)
			require.True(t, ok)
			require.NotContains(t, format.Error(), "\n")
			require.Regexp(t, ` at line [1-9]\d*, column [1-9]\d*$`, format.Got)
			value, err := parseJSON([]byte(test.text))
			require.ErrorIs(t, err, test.want)
			require.Equal(t, test.want == ruleDuplicateKey, value != nil)
		})
	}
}

// TestJSONOfPython: what Python's json writes beyond JSON, and a byte order mark, are read
// from configs and indexes, and refused in headers.
func TestJSONOfPython(t *testing.T) {
	for text, want := range map[string]any{
		"NaN": json.Number("NaN"), "Infinity": json.Number("Infinity"), "[-Infinity, -1]": []any{json.Number("-Infinity"), json.Number("-1")},
		"\ufeff{\"a\": NaN}": map[string]any{"a": json.Number("NaN")},
	} {
		value, err := parseJSON([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, value)
		require.ErrorIs(t, readJSON(text), ruleNotJSON)
	}
	for _, text := range []string{"NaNs", "-Infinit", "--Infinity", "+Infinity", "\ufeff\ufeff1", "[1]\ufeff"} {
		_, err := parseJSON([]byte(text))
		require.ErrorIs(t, err, ruleNotJSON, text)
	}
	index, err := parseIndex("i", []byte("\ufeff{\"metadata\": {\"total_size\": NaN}, \"weight_map\": {\"a\": \"b\"}}"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b"}, maps.Collect(index.all()))
}

// TestManyDuplicates: however long the keys are and however often one comes again, the
// error is short and the reading quick.
func TestManyDuplicates(t *testing.T) {
	text := `{"` + strings.Repeat("x", 1<<20) + `": {"a": 0` + strings.Repeat(`, "a": 0`, 100_000) + "}}"
	before := time.Now()
	_, err := parseJSON([]byte(text))
	require.ErrorIs(t, err, ruleDuplicateKey)
	require.ErrorContains(t, err, "more problems: got 99900")
	require.Less(t, len(err.Error()), 100*1000)
	require.Less(t, time.Since(before), 5*time.Second)
}

// FuzzJSON compares the reader with encoding/json: what it accepts is valid
// there and means the same, and what only it refuses is refused on purpose.
func FuzzJSON(f *testing.F) {
	for _, text := range []string{`{"a":[1,2.5e-3,true,null,"\u00e9\n"]}`, `"\ud83d\ude00"`, `{"a":1,"a":2}`, `[[[]]]`, ` -0 `} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		err := readJSON(string(text))
		value, treeErr := parseJSON(text)
		if readable := err == nil; readable != (treeErr == nil) {
			require.False(t, readable)
			require.Regexp(t, "\ufeff|NaN|Infinity", string(text))
			return
		}
		if err == nil {
			require.True(t, json.Valid(text))
			require.Equal(t, decodeJSON(t, string(text)), value)
		} else if json.Valid(text) && utf8.Valid(text) && !errors.Is(err, ruleDuplicateKey) {
			onPurpose := strings.Contains(err.Error(), "surrogate") || strings.Contains(err.Error(), "nested")
			require.True(t, onPurpose, "%v", err)
		}
		values, objectErr := ParseObject(text, func(string) bool { return true })
		if object, ok := value.(map[string]any); ok {
			require.Equal(t, treeErr, objectErr)
			require.Len(t, values, len(object))
			for key, text := range values {
				value, err := parseJSON(text)
				require.NotNil(t, value, err)
				require.Equal(t, object[key], value)
			}
		} else {
			require.Error(t, objectErr)
		}
		r := &jsonReader{data: text}
		if s, err := r.string(); err == nil && utf8.Valid(text) {
			var want string
			require.NoError(t, json.Unmarshal(text[:r.pos], &want))
			require.Equal(t, want, s)
		}
	})
}

// TestJSONSaysWhere: errors name line, column and key, and keys given twice are all
// reported.
func TestJSONSaysWhere(t *testing.T) {
	for text, want := range map[string]string{
		"{\n  \"é\": [1, x]}":                 `key "é": text is not JSON: got 'x' at line 2, column 12, want a value`,
		"{\"a\": {\"b\":\n{\"c\": 01}}}":      `key "a.b.c": text is not JSON: got '1' at line 2, column 8, want ',' or '}'`,
		"{\"a\": {\"b\": 1},\n}":              `key "a": text is not JSON: got '}' at line 2, column 1, want a string`,
		"{\"a\": {\"b\": 1 2}}":               `key "a.b": text is not JSON: got '2' at line 1, column 15, want ',' or '}'`,
		"[1,\n2,\n\"\xff\"]":                  `text is not UTF-8: got byte 0xff at line 3, column 2`,
		"{\"ä\": 1,\r\n \"b\": {}, \"ä\": 2}": `key "ä": duplicate key: got the key again at line 2, column 11`,
		"":                                    `text is not JSON: got end of text at line 1, column 1, want a value`,
	} {
		_, err := parseJSON([]byte(text))
		require.EqualError(t, err, "safetensors: "+want, text)
	}
	value, err := parseJSON([]byte(`{"a": 1, "a": 2, "b": [{"c": 1, "c": {}, "c": 3}]}`))
	require.Equal(t, map[string]any{"a": json.Number("2"), "b": []any{map[string]any{"c": json.Number("3")}}}, value)
	require.Equal(t, []string{
		`safetensors: key "a": duplicate key: got the key again at line 1, column 10`,
		`safetensors: key "b.c": duplicate key: got the key again at line 1, column 33`,
		`safetensors: key "b.c": duplicate key: got the key again at line 1, column 42`,
	}, strings.Split(err.Error(), "\n"))
}

// TestParseObject: the values that are asked for come as they are written, and all of the
// text is checked.
func TestParseObject(t *testing.T) {
	text := []byte("\ufeff { \"a\" : [1, {\"x\": NaN}] ,\n\"\\u0062\": \"\\u00e9\", \"c\":{\"a\":-Infinity}, \"d\": 1.50 }\n")
	odd := func(key string) bool { return key != "c" }
	values, err := ParseObject(text, odd)
	require.NoError(t, err)
	require.Equal(t, map[string]json.RawMessage{
		"a": json.RawMessage(`[1, {"x": NaN}]`), "b": json.RawMessage(`"\u00e9"`), "d": json.RawMessage(`1.50`),
	}, values)
	for text, want := range map[string]string{
		`[1, 2]`:                  `value is not a JSON object: got [1, 2] at line 1, column 1, want '{'`,
		` 3 `:                     `value is not a JSON object: got 3 at line 1, column 2, want '{'`,
		`{"a": 1}{}`:              `text is not JSON: got '{' at line 1, column 9, want end of text`,
		`{"c": {"x": [1,]}}`:      `key "c.x": text is not JSON: got ']' at line 1, column 16, want a value`,
		``:                        `text is not JSON: got end of text at line 1, column 1, want a value`,
		"{\"c\": \"\xff\"}":       `text is not UTF-8: got byte 0xff at line 1, column 8`,
		`{"c": {"x": 1, "x": 2}}`: `key "c.x": duplicate key: got the key again at line 1, column 16`,
	} {
		_, err := ParseObject([]byte(text), odd)
		require.EqualError(t, err, "safetensors: "+want, text)
	}
	values, err = ParseObject([]byte(`{"a": 1, "a": 2}`), odd)
	require.ErrorIs(t, err, ruleDuplicateKey)
	require.Equal(t, map[string]json.RawMessage{"a": json.RawMessage("2")}, values)
}
