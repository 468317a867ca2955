package safetensors

import (
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// folder returns a file system of files of one-byte tensors, given by file
// name, and of an index unless it is nil.
func folder(files map[string][]string, index map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{"config.json": {Data: []byte("{}")}}
	for name, tensors := range files {
		var parts []part
		for _, tensor := range tensors {
			parts = append(parts, bytePart(tensor, "x"))
		}
		fsys[name] = &fstest.MapFile{Data: buildFile(parts...)}
	}
	if index != nil {
		text, _ := json.Marshal(map[string]any{"weight_map": index})
		fsys[indexName] = &fstest.MapFile{Data: text}
	}
	return fsys
}

// closeCounter counts the files that are open.
type closeCounter struct {
	fs.FS
	open *int
}

type countedFile struct {
	fs.File
	open *int
}

func (c closeCounter) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	*c.open++
	return countedFile{f, c.open}, nil
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	return f.File.(interface {
		ReadAt([]byte, int64) (int, error)
	}).ReadAt(p, off)
}

func (f countedFile) Close() error {
	*f.open--
	return f.File.Close()
}

func (c closeCounter) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(c.FS, name) }

func TestOpenFolder(t *testing.T) {
	mtp := func(name string) bool { return strings.Contains(name, ".mtp.layers.0.") }
	all := map[string][]string{
		"m-1.safetensors": {"m.mtp.layers.0.b", "m.layers.0.x"}, "m-2.safetensors": {"m.mtp.layers.0.a"}, "m-3.safetensors": {"m.layers.1.y", "m.layers.0.y"},
	}
	index := map[string]string{
		"m.mtp.layers.0.b": "m-1.safetensors", "m.layers.0.x": "m-1.safetensors", "m.mtp.layers.0.a": "m-2.safetensors",
		"m.layers.1.y": "m-3.safetensors", "m.layers.0.y": "m-3.safetensors",
	}
	without := func(name string) map[string][]string {
		some := make(map[string][]string)
		for k, v := range all {
			if k != name {
				some[k] = v
			}
		}
		return some
	}
	tests := []struct {
		name     string
		fsys     fstest.MapFS
		needed   func(string) bool
		files    []string
		tensors  []string
		unopened map[string][]string
	}{
		{"no index", folder(all, nil), mtp, []string{"m-1.safetensors", "m-2.safetensors", "m-3.safetensors"},
			[]string{"m.layers.0.x", "m.layers.0.y", "m.layers.1.y", "m.mtp.layers.0.a", "m.mtp.layers.0.b"}, nil},
		{"index, all needed", folder(all, index), nil, []string{"m-1.safetensors", "m-2.safetensors", "m-3.safetensors"},
			[]string{"m.layers.0.x", "m.layers.0.y", "m.layers.1.y", "m.mtp.layers.0.a", "m.mtp.layers.0.b"}, nil},
		{"index, some needed, the rest absent", folder(without("m-3.safetensors"), index), mtp, []string{"m-1.safetensors", "m-2.safetensors"},
			[]string{"m.layers.0.x", "m.mtp.layers.0.a", "m.mtp.layers.0.b"},
			map[string][]string{"m-3.safetensors": {"m.layers.0.y", "m.layers.1.y"}}},
		{"file beside the index", folder(map[string][]string{"a.safetensors": {"t"}, "other.safetensors": {"t"}}, map[string]string{"t": "a.safetensors"}), nil,
			[]string{"a.safetensors"}, []string{"t"}, nil},
		{"shard in a folder below", folder(map[string][]string{"sub/a.safetensors": {"t"}}, map[string]string{"t": "sub/a.safetensors"}), nil,
			[]string{"sub/a.safetensors"}, []string{"t"}, nil},
		{"unneeded tensor that the index does not name", folder(map[string][]string{"a.safetensors": {"m.mtp.layers.0.a", "extra"}}, map[string]string{"m.mtp.layers.0.a": "a.safetensors"}), mtp,
			[]string{"a.safetensors"}, []string{"extra", "m.mtp.layers.0.a"}, nil},
		{"hidden files and folders", folder(map[string][]string{"a.safetensors": {"t"}, "._a.safetensors": {"t"}, "b.safetensors/c": {"t"}}, nil), nil,
			[]string{"a.safetensors"}, []string{"t"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			open := 0
			c, err := OpenFolder(closeCounter{test.fsys, &open}, test.needed)
			require.NoError(t, err)
			var files, tensors []string
			for _, f := range c.files {
				files = append(files, f.Name())
			}
			for _, tensor := range c.Tensors() {
				tensors = append(tensors, tensor.Name)
				found, ok := c.Tensor(tensor.Name)
				require.True(t, ok)
				require.Same(t, tensor, found)
			}
			require.Equal(t, test.files, files)
			require.Equal(t, test.tensors, tensors)
			var unopened map[string][]string
			for tensor, file := range c.Index() {
				if _, opened := c.Tensor(tensor); !opened {
					if unopened == nil {
						unopened = make(map[string][]string)
					}
					unopened[file] = append(unopened[file], tensor)
					slices.Sort(unopened[file])
				}
			}
			require.Equal(t, test.unopened, unopened)
			_, ok := c.Tensor("absent")
			require.False(t, ok)
			require.Equal(t, len(files), open)
			require.NoError(t, c.Close())
			require.NoError(t, c.Close())
			require.Zero(t, open)
		})
	}
}

func TestFolderFails(t *testing.T) {
	notZ := func(name string) bool { return name != "z" }
	a, ab := map[string][]string{"a.safetensors": {"t"}}, map[string][]string{"a.safetensors": {"t"}, "b.safetensors": {"u"}}
	broken := folder(a, nil)
	broken["b.safetensors"] = &fstest.MapFile{Data: []byte("1234")}
	brokenIndex := folder(a, nil)
	brokenIndex[indexName] = &fstest.MapFile{Data: []byte("{")}
	tests := []struct {
		name string
		fsys fstest.MapFS
		want error
		say  []string
	}{
		{"nothing", fstest.MapFS{}, ruleNoWeights, []string{"*.safetensors"}},
		{"only a config", folder(nil, nil), ruleNoWeights, []string{indexName}},
		{"index of nothing", folder(a, map[string]string{}), ruleNoWeights, []string{indexName}},
		{"index that is not JSON", brokenIndex, ruleNotJSON, []string{indexName}},
		{"index that leaves the folder", folder(a, map[string]string{"t": "../a.safetensors"}), ruleShardPath, []string{`"../a.safetensors"`, `"t"`}},
		{"broken file", broken, ruleFileTooSmall, []string{"b.safetensors"}},
		{"missing shard", folder(a, map[string]string{"t": "a.safetensors", "u": "b.safetensors"}), ruleMissingShard, []string{"b.safetensors"}},
		{"missing shard is fs.ErrNotExist", folder(a, map[string]string{"u": "b.safetensors"}), fs.ErrNotExist, []string{"b.safetensors"}},
		{"tensor not in its shard", folder(a, map[string]string{"t": "a.safetensors", "u": "a.safetensors"}), ruleIndexMismatch, []string{`"u"`, "a.safetensors"}},
		{"tensor in another shard", folder(ab, map[string]string{"t": "b.safetensors", "u": "b.safetensors"}), ruleIndexMismatch, []string{`"t"`, "b.safetensors"}},
		{"shards swapped", folder(ab, map[string]string{"t": "b.safetensors", "u": "a.safetensors"}), ruleIndexMismatch, []string{`"t"`, `"u"`, "got it in a.safetensors", "got it in b.safetensors"}},
		{"needed tensor not in the index", folder(map[string][]string{"a.safetensors": {"t", "u"}}, map[string]string{"t": "a.safetensors"}), ruleNotInIndex, []string{`"u"`, "a.safetensors"}},
		{"tensor in two files", folder(map[string][]string{"a.safetensors": {"t"}, "b.safetensors": {"t"}}, nil), ruleDuplicateTensor, []string{`"t"`, "a.safetensors", "b.safetensors"}},
		{"needed tensor in a shard while its own is missing", folder(map[string][]string{"a.safetensors": {"t", "u"}}, map[string]string{"t": "a.safetensors", "u": "b.safetensors"}),
			ruleIndexMismatch, []string{`"u"`, "b.safetensors", "got it in a.safetensors"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			open := 0
			c, err := OpenFolder(closeCounter{test.fsys, &open}, notZ)
			require.Nil(t, c)
			require.ErrorIs(t, err, test.want)
			for _, text := range test.say {
				require.Contains(t, err.Error(), text)
			}
			require.Zero(t, open, "everything opened is closed again")
		})
	}
}

func TestFolderReportsAllProblems(t *testing.T) {
	fsys := folder(map[string][]string{"a.safetensors": {"t", "extra"}, "b.safetensors": {"t"}},
		map[string]string{"t": "a.safetensors", "u": "b.safetensors", "v": "missing.safetensors", "w": "broken.safetensors", "x": "short.safetensors"})
	fsys["broken.safetensors"] = &fstest.MapFile{Data: rawFile(`{"w":{"dtype":"Q9","shape":[-1],"data_offsets":[0,0]}}`, "")}
	short := buildFile(bytePart("x", "abc"))
	fsys["short.safetensors"] = &fstest.MapFile{Data: short[:len(short)-1]}
	_, err := OpenFolder(fsys, nil)
	require.Equal(t, []string{
		`safetensors: broken.safetensors: tensor "w": unknown dtype: got "Q9", want a safetensors dtype`,
		`safetensors: broken.safetensors: tensor "w": invalid shape: got [-1], want a list of non-negative integers`,
		`safetensors: missing.safetensors: missing shard: open missing.safetensors: file does not exist`,
		`safetensors: short.safetensors: tensor "x": file is cut short: got 2 bytes of data, want 3`,
		`safetensors: b.safetensors: tensor "u": tensor is not in the shard that the index names`,
		`safetensors: a.safetensors: tensor "extra": tensor is not in the index`,
	}, strings.Split(err.Error(), "\n"))
	for _, want := range []error{ruleMissingShard, ruleUnknownDtype, ruleTruncated, ruleIndexMismatch, ruleNotInIndex} {
		require.ErrorIs(t, err, want)
	}
}

// TestFolderRepeatsAFile: files that repeat each other are one problem, those that
// share some tensors one for each.
func TestFolderRepeatsAFile(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string][]string
		index map[string]string
		want  []string
	}{
		"a copy": {
			map[string][]string{"backup.safetensors": {"t", "u", "v"}, "model.safetensors": {"t", "u", "v"}}, nil,
			[]string{`model.safetensors: tensor "t": file repeats the tensors of another: got 3 of them in backup.safetensors, want one of the files`},
		},
		"shards beside the file they were cut from": {
			map[string][]string{"m-1.safetensors": {"t", "u"}, "m-2.safetensors": {"v"}, "m-3.safetensors": {"x", "w"}, "m.safetensors": {"t", "u", "v", "w", "x"}}, nil,
			[]string{
				`m.safetensors: tensor "t": file repeats the tensors of another: got 2 of them in m-1.safetensors, want one of the files`,
				`m.safetensors: tensor "v": tensor is in two files: got it in m-2.safetensors`,
				`m.safetensors: tensor "w": file repeats the tensors of another: got 2 of them in m-3.safetensors, want one of the files`,
			},
		},
		"some of either": {
			map[string][]string{"a.safetensors": {"t", "u", "v"}, "b.safetensors": {"w", "u", "v"}}, nil,
			[]string{
				`b.safetensors: tensor "u": tensor is in two files: got it in a.safetensors`,
				`b.safetensors: tensor "v": tensor is in two files: got it in a.safetensors`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := OpenFolder(folder(c.files, c.index), nil)
			require.Equal(t, c.want, strings.Split(strings.ReplaceAll("\n"+err.Error(), "\nsafetensors: ", "\n")[1:], "\n"))
			e, ok := errors.AsType[*FormatError](err)
			require.True(t, ok)
			require.Contains(t, []error{ruleDuplicateTensor, ruleRepeatedFile}, e.Rule)
		})
	}
}

// TestIndexDecides: a copy that the index does not count on is not read, and what is wrong
// with tensors that are not needed is a note.
func TestIndexDecides(t *testing.T) {
	mtp := func(name string) bool { return strings.HasPrefix(name, "mtp.") }
	for name, c := range map[string]struct {
		files map[string][]string
		index map[string]string
		from  map[string]string // the file that a tensor is read from
		note  string
	}{
		"stale copy, first file": {
			map[string][]string{"a": {"mtp.t", "mtp.u"}, "b": {"mtp.t"}}, map[string]string{"mtp.t": "b", "mtp.u": "a"},
			map[string]string{"mtp.t": "b", "mtp.u": "a"}, "which are not read: 1, the first mtp.t in a",
		},
		"stale copies, last file": {
			map[string][]string{"a": {"mtp.t", "mtp.u"}, "b": {"mtp.t", "mtp.u", "mtp.v"}}, map[string]string{"mtp.t": "a", "mtp.u": "a", "mtp.v": "b"},
			map[string]string{"mtp.t": "a", "mtp.u": "a", "mtp.v": "b"}, "which are not read: 2, the first mtp.t in b",
		},
		"absent tensor of the target": {
			map[string][]string{"a": {"mtp.t"}}, map[string]string{"mtp.t": "a", "layers.0": "a"},
			map[string]string{"mtp.t": "a"}, "not in the shard that the index names: 1, the first layers.0 in a",
		},
		"tensor of the target in another shard": {
			map[string][]string{"a": {"mtp.t"}, "b": {"mtp.u", "layers.0"}}, map[string]string{"mtp.t": "a", "mtp.u": "b", "layers.0": "a"},
			map[string]string{"mtp.t": "a", "mtp.u": "b"}, "the first layers.0 in a",
		},
		"tensor of the target in two files and not in the index": {
			map[string][]string{"a": {"mtp.t", "layers.0"}, "b": {"mtp.u", "layers.0"}}, map[string]string{"mtp.t": "a", "mtp.u": "b"},
			map[string]string{"mtp.t": "a", "mtp.u": "b", "layers.0": "a"}, "the first layers.0 in b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := OpenFolder(folder(c.files, c.index), mtp)
			require.NoError(t, err)
			defer f.Close()
			from := make(map[string]string)
			for _, tensor := range f.Tensors() {
				from[tensor.Name] = tensor.File().Name()
			}
			require.Equal(t, c.from, from)
			require.Len(t, f.Notes(), 1)
			require.Contains(t, f.Notes()[0], c.note)
		})
	}
}

func TestFolderThatCannotBeRead(t *testing.T) {
	_, err := OpenFolder(brokenFS{}, nil)
	require.ErrorIs(t, err, errDisk)
	require.ErrorContains(t, err, "safetensors: ")
}

type brokenFS struct{}

func (brokenFS) Open(string) (fs.File, error) { return nil, errDisk }

// TestFolderOfTooManyFiles: each would take one of the mappings that a process may have.
func TestFolderOfTooManyFiles(t *testing.T) {
	files := make(fstest.MapFS)
	for i := range maxFiles + 1 {
		files["x"+strconv.Itoa(i)+".safetensors"] = &fstest.MapFile{Data: sample}
	}
	_, err := OpenFolder(files, nil)
	require.EqualError(t, err, "safetensors: too many files: got 4097, want at most 4096")
}
