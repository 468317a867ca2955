package safetensors

import (
	"io/fs"
	"iter"
	"strings"
	"unicode"
)

// indexName is the file of a folder that says which of its files holds which tensor.
const indexName = "model.safetensors.index.json"

// maxIndexLength is several times what an index of the largest models has.
const maxIndexLength = 32_000_000

// index says which file holds each tensor, by a slash-separated path inside the folder. It
// keeps the text and where in it the tensors stand, which is all that an index of a hundred
// thousand tensors costs.
type index struct {
	text    *jsonReader
	begin   int // of the object
	tensors keySet
}

// readIndex reads the index of a folder. The error matches fs.ErrNotExist if the folder has
// none; what is wrong with single tensors is reported together, as [*FormatError]s.
//
// The index is one JSON object, {"metadata": {...}, "weight_map": {tensor: file}}. Keys
// besides weight_map are ignored.
func readIndex(fsys fs.FS) (*index, error) {
	data, err := readText(fsys, indexName, maxIndexLength)
	if err != nil {
		return nil, err
	}
	return parseIndex(indexName, data)
}

// parseIndex parses the text of the index called file, which must not change any more.
func parseIndex(file string, text []byte) (*index, error) {
	if len(text) > maxIndexLength {
		return nil, &FormatError{File: file, Rule: ruleIndexTooLarge, Want: "at most " + byteCount(maxIndexLength)}
	}
	const weightMapKey = "weight_map"
	x := &index{begin: -1}
	bad := problems{file: file}
	var leaving leastList // tensors whose shards lie elsewhere
	r, err := newTextReader(text)
	if err == nil {
		x.text = r
		err = r.object(func(key string) error {
			if key != weightMapKey {
				_, err := r.value()
				return err
			}
			r.peek()
			x.begin = r.pos
			return r.keyedObject(&x.tensors, r.stringMember(&bad, func(tensor, shard string) {
				if !isShardPath(shard) {
					leaving.add(tensor)
				}
			}))
		})
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, inFile(err, file)
	}
	if x.begin < 0 {
		bad.add(&FormatError{Rule: ruleMissingKey, Want: weightMapKey})
	}
	for _, tensor := range leaving.list {
		shard, _ := x.shard(tensor)
		bad.add(&FormatError{Tensor: tensor, Rule: ruleShardPath, Got: quote(shard)})
	}
	bad.more += leaving.n - len(leaving.list)
	if err := bad.err(); err != nil {
		return nil, err
	}
	return x, nil
}

// shard returns the file that a tensor is assigned to.
func (x *index) shard(tensor string) (string, bool) {
	if x == nil {
		return "", false
	}
	at, found := x.tensors.find(x.text, tensor)
	if !found {
		return "", false
	}
	r := jsonReader{data: x.text.data, pos: at}
	_, shard := r.member()
	return shard, true
}

// all yields the tensors and their files in the order of the text.
func (x *index) all() iter.Seq2[string, string] {
	return func(yield func(tensor, shard string) bool) {
		if x == nil {
			return
		}
		r := jsonReader{data: x.text.data, pos: x.begin + 1}
		for r.peek() == '"' {
			if tensor, shard := r.member(); !yield(tensor, shard) {
				return
			}
			r.next(',')
		}
	}
}

// member reads a key and its string, of an object that was read before.
func (r *jsonReader) member() (key, value string) {
	key, _ = r.string()
	r.next(':')
	value, _ = r.string()
	return key, value
}

// isShardPath reports whether p names a file inside the folder on every
// operating system: backslashes and colons, which mean something else on
// Windows, are as little accepted as "..", and unprintable characters, which
// would garble messages, not at all.
func isShardPath(p string) bool {
	return fs.ValidPath(p) && p != "." && !strings.ContainsAny(p, `\:`) &&
		!strings.ContainsFunc(p, func(c rune) bool { return !unicode.IsPrint(c) })
}
