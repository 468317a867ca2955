package safetensors

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// TestFaultsOfOthersAreNotes: what is wrong with tensors that are not needed is counted in a
// note, and what touches a needed one is an error. A reader of all tensors is strict.
func TestFaultsOfOthersAreNotes(t *testing.T) {
	mtp := func(name string) bool { return strings.HasPrefix(name, "mtp.") }
	tensor := func(name, dtype string, n, begin, end int) string {
		return tensorJSON(name, dtype, []int{n}, begin, end)
	}
	a, c := tensor("mtp.a", "U8", 10, 0, 10), tensor("mtp.c", "U8", 10, 20, 30) // around [10, 20)
	fine := func(name string, begin, end int) string { return tensor(name, "U8", end-begin, begin, end) }
	for name, test := range map[string]struct {
		entries []string
		size    int // of the data
		notes   int // 0: it is an error
		rule    ruleText
		tensors []string // besides mtp.a and mtp.c
	}{
		"unknown dtype":                  {[]string{a, tensor("x", "Q9", 10, 10, 20), c}, 30, 1, ruleUnknownDtype, nil},
		"of a needed one":                {[]string{a, tensor("mtp.x", "Q9", 10, 10, 20), c}, 30, 0, ruleUnknownDtype, nil},
		"wrong byte count":               {[]string{a, tensor("x", "F32", 10, 10, 20), c}, 30, 1, ruleSizeMismatch, nil},
		"of a needed one, too":           {[]string{a, tensor("mtp.x", "F32", 10, 10, 20), c}, 30, 0, ruleSizeMismatch, nil},
		"too short, and a hole after":    {[]string{a, tensor("x", "U8", 10, 10, 15), c}, 30, 2, ruleSizeMismatch, nil},
		"a hole before it":               {[]string{a, fine("x", 15, 20), c}, 30, 1, ruleHole, []string{"x"}},
		"a hole after it":                {[]string{a, fine("x", 10, 15), c}, 30, 1, ruleHole, []string{"x"}},
		"a hole between two of them":     {[]string{a, fine("x", 10, 12), fine("y", 14, 20), c}, 30, 1, ruleHole, []string{"x", "y"}},
		"a hole between needed ones":     {[]string{a, c, fine("x", 30, 40)}, 40, 0, ruleHole, nil},
		"two of them overlap":            {[]string{a, fine("x", 10, 17), fine("y", 13, 20), c}, 30, 1, ruleOverlap, []string{"x"}},
		"one in another, and one after":  {[]string{a, fine("x", 10, 16), fine("y", 11, 12), fine("z", 16, 20), c}, 30, 1, ruleOverlap, []string{"x", "z"}},
		"over the end of a needed one":   {[]string{a, fine("x", 5, 20), c}, 30, 0, ruleOverlap, nil},
		"over the start of a needed one": {[]string{a, fine("x", 10, 25), c}, 30, 0, ruleOverlap, nil},
		"inside a needed one":            {[]string{a, fine("w", 3, 4), fine("x", 10, 20), c}, 30, 0, ruleOverlap, nil},
		"twice":                          {[]string{a, fine("x", 10, 15), fine("x", 15, 20), c}, 30, 1, ruleDuplicateKey, nil},
		"a needed one twice":             {[]string{a, fine("mtp.x", 10, 15), fine("mtp.x", 15, 20), c}, 30, 0, ruleDuplicateKey, nil},
		"a key twice":                    {[]string{a, `"x":{"dtype":"U8","dtype":"U8","shape":[10],"data_offsets":[10,20]}`, c}, 30, 1, ruleDuplicateKey, nil},
		"no object":                      {[]string{a, fine("w", 10, 20), `"x":7`, c}, 30, 1, ruleNotObject, []string{"w"}},
		"no offsets":                     {[]string{a, `"x":{"dtype":"U8","shape":[10]}`, c}, 30, 1, ruleMissingKey, nil},
		"offsets that are none":          {[]string{a, `"x":{"dtype":"U8","shape":[10],"data_offsets":[20,10]}`, c}, 30, 1, ruleOffsets, nil},
		"a key more":                     {[]string{a, `"x":{"dtype":"U8","shape":[10],"data_offsets":[10,20],"more":1}`, c}, 30, 1, ruleUnknownKey, nil},
		"a negative shape":               {[]string{a, `"x":{"dtype":"U8","shape":[-1],"data_offsets":[10,20]}`, c}, 30, 1, ruleShape, nil},
		"a size that overflows":          {[]string{a, `"x":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[10,20]}`, c}, 30, 1, ruleSizeOverflow, nil},
		"past the end of the file":       {[]string{a, fine("w", 10, 20), c, fine("x", 30, 50), fine("y", 50, 60)}, 40, 1, ruleTruncated, []string{"w"}},
		"a needed one past the end":      {[]string{a, fine("x", 10, 20), c}, 29, 0, ruleTruncated, nil},
		"bytes after it":                 {[]string{a, fine("x", 10, 20), c, fine("y", 30, 31)}, 40, 1, ruleTrailingBytes, []string{"x", "y"}},
		"bytes after a needed one":       {[]string{a, fine("x", 10, 20), c}, 40, 0, ruleTrailingBytes, nil},
		"not JSON":                       {[]string{a, `"x":{"dtype":"U8","shape":[10],"data_offsets":[10,]}`, c}, 30, 0, ruleNotJSON, nil},
	} {
		t.Run(name, func(t *testing.T) {
			file := rawFile("{"+strings.Join(test.entries, ",")+"}", strings.Repeat("x", test.size))
			fsys := fstest.MapFS{"m.safetensors": {Data: file}}
			_, err := OpenFolder(fsys, nil)
			require.ErrorIs(t, err, test.rule)
			_, err = Open(fsys, "m.safetensors")
			require.ErrorIs(t, err, test.rule)
			f, err := OpenFolder(fsys, mtp)
			if test.notes == 0 {
				require.ErrorIs(t, err, test.rule)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, tensor := range f.Tensors() {
				names = append(names, tensor.Name)
			}
			require.Equal(t, append([]string{"mtp.a", "mtp.c"}, test.tensors...), names)
			require.Len(t, f.Notes(), 1)
			require.Contains(t, f.Notes()[0], fmt.Sprintf("faults of tensors that are not needed, which are not read: %d: m.safetensors: ", test.notes))
			require.Contains(t, f.Notes()[0], string(test.rule))
			require.NoError(t, f.Close())
		})
	}
}

// TestFaultyTensorsAreIndexed: a tensor that is left out is not missed.
func TestFaultyTensorsAreIndexed(t *testing.T) {
	files := folder(map[string][]string{"b": {"mtp.b", "y"}}, map[string]string{"mtp.a": "a", "x": "a", "mtp.b": "b", "y": "b", "z": "b"})
	files["a"] = &fstest.MapFile{Data: rawFile("{"+tensorJSON("mtp.a", "U8", []int{1}, 0, 1)+","+tensorJSON("x", "Q9", []int{1}, 1, 2)+"}", "ab")}
	f, err := OpenFolder(files, func(name string) bool { return strings.HasPrefix(name, "mtp.") })
	require.NoError(t, err)
	require.Equal(t, []string{
		"tensors that are not needed and not in the shard that the index names: 1, the first z in b",
		`faults of tensors that are not needed, which are not read: 1: a: tensor "x": unknown dtype: got "Q9", want a safetensors dtype`,
	}, f.Notes())
	require.NoError(t, f.Close())
}
