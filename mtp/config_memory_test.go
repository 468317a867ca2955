package mtp_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/mtp"
	"github.com/drafthead/drafthead/weights"
)

// requireAmongOthers checks that a config is read alike where more other keys stand before
// its own, in each of its objects, than are kept.
func requireAmongOthers(t *testing.T, data []byte, want *mtp.Config, wantErr error) {
	t.Helper()
	var others strings.Builder
	for i := range 1100 {
		fmt.Fprintf(&others, `"other%d":[],`, i)
	}
	text := string(data)
	for _, start := range []string{`"text_config":{"`, `"sparse_attention_config":{"`, `"quantization_config":{"`} {
		text = strings.ReplaceAll(text, start, strings.TrimSuffix(start, `"`)+others.String()+`"`)
	}
	text = strings.Replace(text, "{", "{"+others.String(), 1)
	c, err := mtp.ParseConfig([]byte(text))
	require.Equal(t, want, c)
	if wantErr != nil {
		require.EqualError(t, err, wantErr.Error())
	}
}

// TestConfigMemoryIsBounded: whatever a config holds, reading and inspecting it takes a few
// times its bytes, and what is said of it is short.
func TestConfigMemoryIsBounded(t *testing.T) {
	const n = 100_000
	many := func(text string) string { return strings.TrimSuffix(strings.Repeat(text+",", n), ",") }
	keys := func(n int) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, `,"%x":0`, i)
		}
		return s.String()[1:]
	}
	layers := func(list string) []edit {
		return []edit{set("quantization_config", `{"quant_method": "mxfp8", "ignored_layers": [`+list+`]}`)}
	}
	method := func(name, more string) []edit {
		return []edit{set("quantization_config", `{"quant_method": "`+name+`", `+more+`}`)}
	}
	named := func(value string) string {
		var s strings.Builder
		for i := range n {
			fmt.Fprintf(&s, `,"model.mtp.layers.0.%d":%s`, i, value)
		}
		return s.String()[1:]
	}
	for name, c := range map[string]struct {
		edits []edit
		more  string // members
		says  string // in the error
	}{
		"other keys":             {nil, keys(n), ""},
		"a long key over others": {nil, `"` + strings.Repeat("x", n) + `":{` + keys(n) + "}", ""},
		"a long key given twice": {nil, `"` + strings.Repeat("x", n) + `":{` + many(`"k":0`) + "}", "duplicate key: got 99899 more of them"},
		"zeros":                  {nil, `"x":[` + many("0") + "]", ""},
		"objects":                {nil, `"x":[` + many("{}") + "]", ""},
		"objects in objects":     {nil, `"x":[` + many(`{"a":{"b":{}}}`) + "]", ""},
		"a size of zeros":        {[]edit{set("shared_intermediate_size", "["+many("0")+"]")}, "", "shared_intermediate_size: wrong type: got [0,0,0,"},
		"a section of keys":      {[]edit{set("rope_scaling", "{"+keys(n)+"}")}, "", "more of them"},
		"layers of zeros":        {[]edit{set("sparse_attention_config.sparse_disable_index_value", "["+many("1")+"]")}, "", "sparse_disable_index_value: inconsistent"},
		"bad patterns":           {layers(many(`"re:((a"`)), "", ""},
		"a long pattern":         {layers(`"re:` + strings.Repeat("(", n) + `"`), "", ""},
		"names of other modules": {layers(many(`"m.0"`)), "", ""},
		"names of the head's":    {layers(many(`"lm_head"`)), "", ""},
		"numbers for names":      {layers(many(`0`)), "", ""},
		"modules one by one":     {method("modelopt", `"quant_algo": "MIXED_PRECISION", "quantized_layers": {`+named(`{"quant_algo":"NVFP4"}`)+"}"), "", ""},
		"modules of no type":     {method("modelopt", `"quant_algo": "MIXED_PRECISION", "quantized_layers": {`+named("0")+"}"), "", ""},
		"groups":                 {method("compressed-tensors", `"config_groups": {`+named(`{"targets":["re:a","b"],"format":"dense"}`)+"}"), "", ""},
		"targets":                {method("compressed-tensors", `"config_groups": {"a":{"targets":[`+many(`"re:((a"`)+"]}}"), "", ""},
		"layers with wildcards":  {method("quark", `"layer_quant_config": {`+named(`{"weight":[]}`)+"}"), "", ""},
		"text":                   {nil, `"router_dtype":"` + strings.Repeat("x", n) + `"`, "router_dtype: unsupported"},
	} {
		t.Run(name, func(t *testing.T) {
			s := synthetic{config: c.edits}
			files := s.files(t)
			text := files["config.json"].Data
			if c.more != "" {
				text = []byte(strings.Replace(string(text), "{", "{"+c.more+",", 1))
				files["config.json"].Data = text
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, report, err := mtp.InspectFS(files, mtp.Options{})
			runtime.ReadMemStats(&after)
			require.Less(t, int(after.TotalAlloc-before.TotalAlloc), 12*len(text)+3<<19, "%d bytes", len(text))
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				require.Less(t, len(err.Error()), 50_000)
				require.LessOrEqual(t, len(weights.Problems(err)), 110)
				return
			}
			require.NoError(t, err)
			require.Less(t, len(report.String()), 20_000)
		})
	}
}

// TestListElements: elements are cut where they end.
func TestListElements(t *testing.T) {
	want := []string{`1`, `-2.5e7`, `"a,]\""`, `"\\"`, `[1, [2], "]"]`, `{"a": {"b": "}"}}`, `true`, `null`, `NaN`, `-Infinity`, `[]`, `{}`, `""`}
	require.Equal(t, want, mtp.Elements("[ "+strings.Join(want, " ,\n ")+"\t]"))
	require.Equal(t, want, mtp.Elements("["+strings.Join(want, ",")+"]"))
	require.Empty(t, mtp.Elements("[ ]"))
}
