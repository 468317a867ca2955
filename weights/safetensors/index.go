package safetensors

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// indexName is the file of a folder that says which of its files holds which tensor.
const indexName = "model.safetensors.index.json"

// maxIndexLength is several times what an index of the largest models has.
const maxIndexLength = 32_000_000

// readIndex reads the index of a folder: the file that holds each tensor, by the
// tensor's name, as a slash-separated path inside the folder. The error matches
// fs.ErrNotExist if the folder has no index; what is wrong with single tensors is
// reported together, as [*FormatError]s.
//
// The index is one JSON object, {"metadata": {...}, "weight_map": {tensor: file}}. Keys
// besides weight_map are ignored.
func readIndex(fsys fs.FS) (map[string]string, error) {
	data, err := readText(fsys, indexName, maxIndexLength)
	if err != nil {
		return nil, err
	}
	return parseIndex(indexName, data)
}

// parseIndex parses the text of the index called file.
func parseIndex(file string, text []byte) (map[string]string, error) {
	if len(text) > maxIndexLength {
		return nil, &FormatError{File: file, Rule: ruleIndexTooLarge, Want: "at most " + byteCount(maxIndexLength)}
	}
	const weightMapKey = "weight_map"
	var weightMap map[string]string
	bad := problems{file: file}
	r, err := newTextReader(text)
	if err == nil {
		err = r.object(func(key string) error {
			if key == weightMapKey {
				weightMap = make(map[string]string)
				return r.stringMap(weightMap, &bad)
			}
			_, err := r.value()
			return err
		})
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, inFile(err, file)
	}
	if weightMap == nil {
		bad.add(&FormatError{Rule: ruleMissingKey, Want: weightMapKey})
	}
	for _, tensor := range slices.Sorted(maps.Keys(weightMap)) {
		if shard := weightMap[tensor]; !isShardPath(shard) {
			bad.add(&FormatError{Tensor: tensor, Rule: ruleShardPath, Got: quote(shard)})
		}
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return weightMap, nil
}

// isShardPath reports whether p names a file inside the folder on every
// operating system: backslashes and colons, which mean something else on
// Windows, are as little accepted as "..", and unprintable characters, which
// would garble messages, not at all.
func isShardPath(p string) bool {
	return fs.ValidPath(p) && p != "." && !strings.ContainsAny(p, `\:`) &&
		!strings.ContainsFunc(p, func(c rune) bool { return !unicode.IsPrint(c) })
}
