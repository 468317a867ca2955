package mtp_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// verdict is what must become of a mutant.
type verdict int

const (
	harmless verdict = iota // it loads, and drafts what the seed drafts
	unknown                 // it loads or it does not
	fatal                   // it must not load
)

// mutant is a checkpoint folder in parts that can be changed one by one, whatever the
// format says of them. A program, the input of the fuzzer, says what is changed.
type mutant struct {
	program []byte // what is left of it
	seed    *folderSeed
	files   map[string]*mutantFile
	done    []string // mutations
	verdict verdict
	size    int // bytes of all files

	foreigners int // tensors of other modules that were added
}

// mutantFile is a file as the parts of one kind of file.
type mutantFile struct {
	mode   fs.FileMode // of another kind than a regular file
	target string      // of a link
	text   []byte      // all of it; or else
	keys   []jsonKey   // JSON; or else
	shard  *mutantShard
	edits  []func([]byte) []byte // of what that gives
}

// jsonKey is a key of nested objects, "a\x00b" for b within a, and its value as written.
type jsonKey struct{ path, value string }

// mutantShard is a safetensors file. Headers are text in all their parts.
type mutantShard struct {
	tensors  []mutantTensor
	metadata string // "": none
	pad      int
	length   string // of the header, 8 bytes; "": what it is
}

// mutantTensor is a header's entry and the bytes that it stands for.
type mutantTensor struct {
	name, dtype string
	shape       []string
	begin, end  string // "": where data is
	data        []byte
}

// folderSeed is a checkpoint to begin with, and what it drafts.
type folderSeed struct {
	name   string
	files  map[string]*mutantFile
	drafts []int32
	probs  []float32
}

// folderSeeds are the layouts that differ: standalone and bundled, one file and shards with
// an index, plain and quantized.
func folderSeeds(t testing.TB) (seeds []*folderSeed) {
	for _, s := range []synthetic{{}, {format: "BF16", bundled: true, modules: 2}, {format: "MXFP8", seed: 1}} {
		file, err := safetensors.Open(fstest.MapFS{"f": {Data: s.weights(t)}}, "f")
		require.NoError(t, err)
		shards := []*mutantShard{{}}
		if s.bundled {
			shards = append(shards, &mutantShard{})
		}
		for i, tensor := range file.Tensors() {
			entry := mutantTensor{name: tensor.Name, dtype: string(tensor.Dtype), data: make([]byte, tensor.Size())}
			_, err := tensor.ReadAt(entry.data, 0)
			require.NoError(t, err)
			for _, n := range tensor.Shape {
				entry.shape = append(entry.shape, strconv.Itoa(n))
			}
			shard := shards[i*len(shards)/len(file.Tensors())]
			shard.tensors = append(shard.tensors, entry)
		}
		seed := &folderSeed{name: s.String(), files: map[string]*mutantFile{"config.json": {keys: flatten(t, s.configJSON(t))}}}
		var index []jsonKey
		for i, shard := range shards {
			name := "model.safetensors"
			if len(shards) > 1 {
				name = fmt.Sprintf("model-%d.safetensors", i)
				for _, tensor := range shard.tensors {
					index = append(index, jsonKey{"weight_map\x00" + tensor.name, quoteJSON(name)})
				}
			}
			seed.files[name] = &mutantFile{shard: shard}
		}
		if index != nil {
			seed.files[indexFile] = &mutantFile{keys: index}
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

const indexFile = "model.safetensors.index.json"

// flatten takes a JSON object apart.
func flatten(t testing.TB, text []byte) (keys []jsonKey) {
	var object map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &object))
	for _, key := range slices.Sorted(maps.Keys(object)) {
		if value := object[key]; value[0] == '{' {
			for _, inner := range flatten(t, value) {
				keys = append(keys, jsonKey{key + "\x00" + inner.path, inner.value})
			}
		} else {
			keys = append(keys, jsonKey{key, string(value)})
		}
	}
	return keys
}

// newMutant returns a copy of the seed that a program's first byte names.
func newMutant(seeds []*folderSeed, program []byte) *mutant {
	m := &mutant{program: program, files: map[string]*mutantFile{}}
	m.seed = seeds[m.pick(len(seeds))]
	for name, file := range m.seed.files {
		m.files[name] = file.clone()
	}
	return m
}

// clone returns a file whose parts can be changed. The bytes of tensors are shared.
func (f *mutantFile) clone() *mutantFile {
	c := *f
	c.keys, c.edits = slices.Clone(f.keys), slices.Clone(f.edits)
	if f.shard != nil {
		shard := *f.shard
		shard.tensors = slices.Clone(shard.tensors)
		for i := range shard.tensors {
			shard.tensors[i].shape = slices.Clone(shard.tensors[i].shape)
		}
		c.shard = &shard
	}
	return &c
}

// next returns the next byte of the program, 0 at its end.
func (m *mutant) next() int {
	if len(m.program) == 0 {
		return 0
	}
	b := m.program[0]
	m.program = m.program[1:]
	return int(b)
}

// pick returns a number below n.
func (m *mutant) pick(n int) int {
	if n <= 1 {
		return 0
	}
	if n > 256 {
		return (m.next()<<8 | m.next()) % n
	}
	return m.next() % n
}

// shards returns the names of the safetensors files with tensors.
func (m *mutant) shards() (names []string) {
	for _, name := range slices.Sorted(maps.Keys(m.files)) {
		if f := m.files[name]; f.shard != nil && f.mode == 0 && len(f.shard.tensors) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// render writes out all files.
func (m *mutant) render() map[string][]byte {
	files := make(map[string][]byte)
	m.size = 0
	for name, f := range m.files {
		if f.mode == 0 {
			files[name] = f.bytes()
			m.size += len(files[name])
		}
	}
	return files
}

// folder returns the mutant as a folder in memory.
func (m *mutant) folder() fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, data := range m.render() {
		fsys[name] = &fstest.MapFile{Data: data}
	}
	for name, f := range m.files {
		target := f.target
		if target == name { // MapFS would follow it for ever
			target = "nowhere"
		}
		if f.mode != 0 {
			fsys[name] = &fstest.MapFile{Mode: f.mode, Data: []byte(target)}
		}
	}
	return fsys
}

// write writes the mutant to dir. What the system has no way to make is left out.
func (m *mutant) write(dir string) error {
	for name, data := range m.render() {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	for name, f := range m.files {
		var err error
		switch path := filepath.Join(dir, name); f.mode {
		case 0:
		case fs.ModeDir:
			err = os.Mkdir(path, 0o700)
		case fs.ModeSymlink:
			err = os.Symlink(f.target, path)
		default:
			err = makeSpecial(path, f.mode)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *mutantFile) bytes() []byte {
	data := f.text
	switch {
	case f.keys != nil:
		data = appendJSON(nil, f.keys)
	case f.shard != nil:
		data = f.shard.bytes()
	}
	for _, edit := range f.edits {
		data = edit(data)
	}
	return data
}

// appendJSON writes keys as an object. Keys that come twice are written twice.
func appendJSON(to []byte, keys []jsonKey) []byte {
	to = append(to, '{')
	for i := 0; i < len(keys); {
		if i > 0 {
			to = append(to, ',')
		}
		first, _, nested := strings.Cut(keys[i].path, "\x00")
		to = append(append(to, quoteJSON(first)...), ':')
		if !nested {
			to = append(to, keys[i].value...)
			i++
			continue
		}
		var inner []jsonKey
		for ; i < len(keys); i++ {
			rest, ok := strings.CutPrefix(keys[i].path, first+"\x00")
			if !ok {
				break
			}
			inner = append(inner, jsonKey{rest, keys[i].value})
		}
		to = appendJSON(to, inner)
	}
	return append(to, '}')
}

func (s *mutantShard) bytes() []byte {
	var header, data bytes.Buffer
	header.WriteByte('{')
	if s.metadata != "" {
		header.WriteString(`"__metadata__":` + s.metadata + ",")
	}
	for i := range s.tensors {
		t := &s.tensors[i]
		begin, end := strconv.Itoa(data.Len()), strconv.Itoa(data.Len()+len(t.data))
		data.Write(t.data)
		if i > 0 {
			header.WriteByte(',')
		}
		if t.begin != "" {
			begin = t.begin
		}
		if t.end != "" {
			end = t.end
		}
		fmt.Fprintf(&header, `%s:{"dtype":%s,"shape":[%s],"data_offsets":[%s,%s]}`,
			quoteJSON(t.name), quoteJSON(t.dtype), strings.Join(t.shape, ","), begin, end)
	}
	header.WriteByte('}')
	header.Write(bytes.Repeat([]byte{' '}, s.pad))
	length := []byte(s.length)
	if s.length == "" {
		length = binary.LittleEndian.AppendUint64(nil, uint64(header.Len()))
	}
	return slices.Concat(length, header.Bytes(), data.Bytes())
}

// quoteJSON quotes text and leaves what is not UTF-8 as it is.
func quoteJSON(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
