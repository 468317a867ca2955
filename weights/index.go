package weights

import (
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// IndexName is the file that says which shard holds which tensor.
const IndexName = "model.safetensors.index.json"

// Index is a parsed index: {"metadata": {...}, "weight_map": {tensor: shard}}.
type Index struct {
	// WeightMap maps every tensor to the file that holds it, a slash-separated
	// path inside the folder of the index.
	WeightMap map[string]string
}

// ReadIndex reads the index of a folder. The error is fs.ErrNotExist if there
// is none.
func ReadIndex(fsys fs.FS) (*Index, error) {
	f, err := fsys.Open(IndexName)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxHeaderLength+1))
	if err != nil {
		return nil, err
	}
	return ParseIndex(IndexName, data)
}

// ParseIndex parses the text of the index called file, which must be one JSON
// object without repeated keys. Keys besides weight_map are ignored. Whatever
// is wrong with single entries of weight_map is reported together.
func ParseIndex(file string, text []byte) (*Index, error) {
	if len(text) > maxHeaderLength {
		return nil, &FormatError{File: file, Err: ErrIndexTooLarge, Want: "at most " + byteCount(maxHeaderLength)}
	}
	const weightMapKey = "weight_map"
	var index Index
	bad := problems{file: file}
	r, err := newJSONReader(text)
	if err == nil {
		err = r.object(func(key string) error {
			if key == weightMapKey {
				index.WeightMap = make(map[string]string)
				return r.stringMap(weightMapKey, index.WeightMap, &bad)
			}
			_, err := r.value()
			return err
		})
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, locate(err, file, "")
	}
	if index.WeightMap == nil {
		bad.add(&FormatError{Err: ErrMissingKey, Want: weightMapKey})
	}
	for _, tensor := range slices.Sorted(maps.Keys(index.WeightMap)) {
		if shard := index.WeightMap[tensor]; !isShardPath(shard) {
			bad.add(&FormatError{Tensor: tensor, Err: ErrShardPath, Got: quote(shard)})
		}
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return &index, nil
}

// isShardPath reports whether p names a file inside the folder on every
// operating system: backslashes and colons, which mean something else on
// Windows, are as little accepted as "..", and unprintable characters, which
// would garble messages, not at all.
func isShardPath(p string) bool {
	return fs.ValidPath(p) && p != "." && !strings.ContainsAny(p, `\:`) &&
		!strings.ContainsFunc(p, func(c rune) bool { return !unicode.IsPrint(c) })
}

// shards returns the tensors of every shard, sorted.
func (x *Index) shards() map[string][]string {
	shards := make(map[string][]string)
	for tensor, shard := range x.WeightMap {
		shards[shard] = append(shards[shard], tensor)
	}
	for _, tensors := range shards {
		slices.Sort(tensors)
	}
	return shards
}
