package safetensors

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// allocated returns how many bytes f takes, those that it gives back too.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

// many joins n texts.
func many(n int, text func(i int) string) string {
	list := make([]string, n)
	for i := range list {
		list[i] = text(i)
	}
	return strings.Join(list, ",")
}

// TestMemoryIsBounded: whatever a header or an index holds, reading it takes a few times its
// bytes, and what is wrong with it is told in a few lines.
func TestMemoryIsBounded(t *testing.T) {
	const n = 5_000
	mtp := func(name string) bool { return strings.HasPrefix(name, "mtp.") }
	entry := func(name string) func(i int) string {
		return func(i int) string {
			return fmt.Sprintf(`"%s%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`, name, i)
		}
	}
	header := func(text string) fstest.MapFS {
		return fstest.MapFS{"m.safetensors": {Data: rawFile("{"+text+"}", "")}}
	}
	index := func(text string) fstest.MapFS {
		return fstest.MapFS{indexName: {Data: []byte(`{"weight_map":{` + text + "}}")}, "m": {Data: rawFile("{}", "")}}
	}
	two := header(many(n, entry("t")) + "," + entry("v")(0))
	two["other.safetensors"] = &fstest.MapFile{Data: rawFile("{"+many(n, entry("t"))+","+entry("u")(0)+"}", "")}
	needed := header(many(n, entry("mtp.")) + "," + entry("v")(0))
	needed["other.safetensors"] = &fstest.MapFile{Data: rawFile("{"+many(n, entry("mtp."))+","+entry("u")(0)+"}", "")}
	broken := make(fstest.MapFS)
	for i := range 2000 {
		broken[strconv.Itoa(i)+".safetensors"] = &fstest.MapFile{Data: rawFile("{"+many(100, func(i int) string { return fmt.Sprintf(`"mtp.%d":0`, i) })+"}", "")}
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		times int // of what is read, at most
		says  string
	}{
		"tensors":                    {header(many(n, entry("mtp."))), 6, ""},
		"tensors of others":          {header(many(n, entry("t"))), 6, ""},
		"tensors of no dtype":        {header(strings.ReplaceAll(many(n, entry("t")), "U8", "Q")), 6, ""},
		"needed ones of no dtype":    {header(strings.ReplaceAll(many(n, entry("mtp.")), "U8", "Q")), 6, "more problems: got 4900"},
		"no objects":                 {header(many(10*n, func(i int) string { return fmt.Sprintf(`"t%d":0`, i) })), 6, ""},
		"empty objects":              {header(many(10*n, func(i int) string { return fmt.Sprintf(`"t%d":{}`, i) })), 6, ""},
		"one tensor again and again": {header(many(n, func(int) string { return entry("t")(1) })), 8, ""},
		"many dimensions":            {header(`"t":{"dtype":"U8","shape":[` + many(10*n, strconv.Itoa) + `],"data_offsets":[0,0]}`), 6, ""},
		"tensors of many dimensions": {header(many(n/100, func(i int) string {
			return fmt.Sprintf(`"mtp.%d":{"dtype":"U8","shape":[0%s],"data_offsets":[0,0]}`, i, strings.Repeat(",1", maxDimensions-1))
		})), 8, ""},
		"unknown keys":                   {header(`"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0],` + many(10*n, func(i int) string { return fmt.Sprintf(`"%d":0`, i) }) + "}"), 6, ""},
		"words that look like places":    {header(`"t":{"` + strings.Repeat("data_offsets", n) + `":0}`), 8, ""},
		"tensors in two files":           {two, 7, "tensor is in two files: got 4900 more"},
		"needed ones in two files":       {needed, 7, "tensor is in two files: got 4900 more"},
		"files with many problems":       {broken, 60, "1990 more files with problems"},
		"names of others":                {index(`"mtp.t":"m",` + many(10*n, func(i int) string { return fmt.Sprintf(`"%x":"s"`, i) })), 5, "mtp.t"},
		"names of others that are there": {index(`"mtp.t":"m",` + many(10*n, func(i int) string { return fmt.Sprintf(`"%x":"m"`, i) })), 6, "mtp.t"},
		"needed names":                   {index(many(10*n, func(i int) string { return fmt.Sprintf(`"mtp.%x":"m"`, i) })), 6, "not in the shard that the index names: got 49900 more"},
		"files":                          {index(many(10*n, func(i int) string { return fmt.Sprintf(`"mtp.%x":"%d"`, i, i) })), 6, "too many files: got 4097"},
		"files elsewhere":                {index(many(10*n, func(i int) string { return fmt.Sprintf(`"%x":"../"`, i) })), 6, "more problems: got 49900"},
		"files that are numbers":         {index(many(10*n, func(i int) string { return fmt.Sprintf(`"%x":0`, i) })), 6, "more problems: got 49900"},
		"metadata of the index":          {fstest.MapFS{indexName: {Data: []byte(`{"metadata":{` + many(10*n, func(i int) string { return fmt.Sprintf(`"%x":0`, i) }) + `},"weight_map":{}}`)}}, 6, "no weights"},
	} {
		t.Run(name, func(t *testing.T) {
			size := 0
			for _, file := range c.files {
				size += len(file.Data)
			}
			var f *Folder
			var err error
			took := allocated(func() { f, err = OpenFolder(c.files, mtp) })
			require.Less(t, took, raceMemory*(c.times*size+1<<17), "%d bytes", size)
			if c.says == "" {
				require.NoError(t, err)
				require.NoError(t, f.Close())
				return
			}
			require.ErrorContains(t, err, c.says)
			require.Less(t, strings.Count(err.Error(), "\n"), maxBroken+2*maxProblems)
		})
	}
}

// TestIndexIsATable: every name is found where the text has it, however it is spelled.
func TestIndexIsATable(t *testing.T) {
	want := map[string]string{"": "empty", `"\`: "quoted", "é\n": "escaped", `\n`: "backslash"}
	list := []string{`"":"empty"`, `"\"\\":"quoted"`, `"\u00e9\n":"escaped"`, `"\\n":"back\u0073lash"`}
	for i := range 1000 {
		name := strconv.Itoa(i * i)
		want[name] = "f" + name
		list = append(list, ` "`+name+"\" :\n\"f"+name+`"`)
	}
	x, err := parseIndex("i", []byte(`{"a":[{}],"weight_map" : {`+strings.Join(list, " , ")+"}, \"b\":0}"))
	require.NoError(t, err)
	require.Equal(t, want, maps.Collect(x.all()))
	for name, file := range want {
		got, ok := x.shard(name)
		require.True(t, ok)
		require.Equal(t, file, got)
	}
	for _, name := range []string{"f1", "2", `"`, "\n", "\\", "1 "} {
		_, ok := x.shard(name)
		require.False(t, ok, name)
	}
	for range x.all() {
		break
	}
	_, err = parseIndex("i", []byte(`{"weight_map":{`+strings.Join(append(list, `"\u0034":"again"`), ",")+"}}"))
	require.ErrorIs(t, err, ruleDuplicateKey)
}

// TestReadUpTo: no more memory than half as much again as there is to read.
func TestReadUpTo(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 64 << 10, 64<<10 + 1, 1 << 20, 3 << 20} {
		for _, claimed := range []int{n - 1, n, n + 1, 1 << 40} {
			if claimed < 0 {
				continue
			}
			var got []byte
			var err error
			took := allocated(func() { got, err = readUpTo(strings.NewReader(strings.Repeat("x", n)), int64(claimed)) })
			require.NoError(t, err)
			require.Len(t, got, min(n, claimed))
			require.Less(t, took, raceMemory*(6*n+1<<18))
		}
	}
	_, err := readUpTo(faultyReader{}, 10)
	require.ErrorIs(t, err, fs.ErrPermission)
}

type faultyReader struct{}

func (faultyReader) Read(p []byte) (int, error) { return 0, fs.ErrPermission }

var _ io.Reader = faultyReader{}
