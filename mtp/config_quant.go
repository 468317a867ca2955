package mtp

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// quantization is what quantization_config, or hf_quant_config.json, says about a
// checkpoint. It is used only for notes: what a tensor is stored as decides how it is read.
type quantization struct {
	// source is the key or the file.
	source string
	// method is quant_method, with quant_algo if there is one; "" if there is neither.
	method string
	// differ reports that the config has another one at the top level.
	differ bool
	// unknown is a format that nobody here knows, as it is written.
	unknown string
	// compared reports that method is one whose rules are read.
	compared bool

	// ignored are the modules that are left as they are, of those that may be the head's; the
	// key is where they were listed.
	ignored    moduleList
	ignoredKey string
	// rules say how other modules are stored: the first that names a module does.
	rules []quantizationRule
	// layers are modules that are named one by one; nil: none are. Of a module that is
	// neither here nor in rules, rest says how it is stored.
	layers map[string]storedKind
	rest   storedKind
}

// quantizationRule says how modules are stored.
type quantizationRule struct {
	modules moduleList
	kind    storedKind
}

// storedKind is what a config can tell of how weights are stored.
type storedKind string

// The kinds. Two are of 8 bits, and of both of them a config of method fp8 or mxfp8 says the
// same.
const (
	kindPlain   storedKind = ""
	kindMXFP8   storedKind = "MXFP8"
	kindFP8     storedKind = "FP8"
	kindMXFP4   storedKind = "MXFP4"
	kindNVFP4   storedKind = "NVFP4"
	kindEither8 storedKind = "8 bits"
	kindUnknown storedKind = "?"
)

// is reports whether a config that says k is true of weights that are stored as kind.
func (k storedKind) is(stored storedKind) bool {
	return k == stored || k == kindUnknown || k == kindEither8 && (stored == kindMXFP8 || stored == kindFP8)
}

// moduleList are modules: names, Python regular expressions after "re:", and, where globs is
// set, names with wildcards. Where below is set, a name stands for all that is in the module
// too.
type moduleList struct {
	entries      []string
	globs, below bool
}

const quantizationKey = "quantization_config"

// readQuantization reads quantization_config, which may sit beside the model's keys or at
// the top level. Nothing that it says is an error.
func readQuantization(text, top section) *quantization {
	inner, outer := text.fields[quantizationKey], top.fields[quantizationKey]
	value := inner
	if inner == nil {
		value = outer
	}
	if value == nil {
		return nil
	}
	q := &quantization{source: quantizationKey, differ: inner != nil && outer != nil && !jsonEqual(inner, outer)}
	if object, ok := value.(objectText); ok {
		q.read(object.fields())
	}
	return q
}

// read reads what a method says, by the method's own rules.
func (q *quantization) read(fields map[string]any) {
	q.method, _ = fields["quant_method"].(string)
	algorithm, hasAlgorithm := fields["quant_algo"].(string)
	q.compared = true
	switch {
	case q.method == "mxfp8" || q.method == "fp8":
		q.readIgnored(fields, moduleList{below: true}, "ignored_layers", "modules_to_not_convert")
		q.rest = kindEither8
	case q.method == "compressed-tensors":
		q.readCompressedTensors(fields)
	case q.method == "quark":
		q.readQuark(fields)
	case q.method == "modelopt" || strings.HasPrefix(q.method, "modelopt_") || q.method == "" && hasAlgorithm:
		q.readModelOpt(fields)
	default:
		q.compared = false
	}
	if hasAlgorithm {
		q.method = strings.TrimSpace(q.method + " " + algorithm)
	}
}

// readIgnored reads the first list under one of the keys that is not empty.
func (q *quantization) readIgnored(fields map[string]any, like moduleList, keys ...string) {
	q.ignoredKey = keys[0]
	for _, key := range keys {
		if list, ok := fields[key].(listText); ok && len(q.ignored.entries) == 0 {
			q.ignored = like.of(list)
			if len(q.ignored.entries) > 0 {
				q.ignoredKey = key
			}
		}
	}
}

// of returns the entries of a list that may be about a module of the head, each once: the
// patterns, and the names of its modules or of what they lie in. It returns one pattern more
// than are ever compared, if there are more.
func (like moduleList) of(list listText) moduleList {
	seen := make(map[string]bool)
	patterns, bytes := 0, 0
	for text := range list.elements() {
		if text[0] != '"' {
			continue
		}
		entry := decodeValue(text).(string)
		pattern, isPattern := like.pattern(entry)
		switch {
		case seen[entry]:
			continue
		case isPattern && !mayMatchHead(entry):
			continue
		case isPattern && patterns <= maxPatterns && bytes <= maxPatternBytes:
			patterns, bytes = patterns+1, bytes+len(pattern)
		case isPattern || !headModule(entry) && !isClass(entry):
			continue
		}
		seen[entry] = true
		like.entries = append(like.entries, entry)
	}
	return like
}

// linearClass is the class of all modules whose weights are compared. Lists may have it, or
// another class, in the place of names.
const linearClass = "Linear"

func isClass(entry string) bool { return entry == linearClass }

// mayMatchHead reports whether a name with wildcards, up to the first of them, is the
// beginning of the name of a module of the head. Expressions may always match.
func mayMatchHead(entry string) bool {
	if strings.HasPrefix(entry, patternPrefix) {
		return true
	}
	begins := entry[:strings.IndexAny(entry, wildcards)]
	for _, name := range []string{headLayers, bundledPrefix + headLayers} {
		if strings.HasPrefix(name, begins) || strings.HasPrefix(begins, name) {
			return true
		}
	}
	return false
}

const headLayers = "model.mtp.layers."

// headModule reports whether a name is that of a module of the head or of one that it lies
// in.
func headModule(name string) bool {
	if name+"." == bundledPrefix {
		return true
	}
	name = strings.TrimPrefix(name, bundledPrefix)
	return strings.HasPrefix(name, headLayers) || strings.HasPrefix(headLayers, name+".") || name+".weight" == lmHead || name+".weight" == embedTokens
}

// notes says by whom a config is, unless it is of the method that released checkpoints have,
// and what of it is not known.
func (q *quantization) notes() (notes []string) {
	if q == nil {
		return nil
	}
	const stored = "what a tensor is stored as decides"
	by, unknown := " names no quant_method", ""
	switch {
	case q.source == modelOptFile:
		by = " says " + safetensors.Printable(q.method)
	case q.method != "":
		by = " is by " + safetensors.Printable(q.method)
	}
	if q.unknown != "" {
		unknown = fmt.Sprintf(", in a format %s that is not known", jsonText(q.unknown))
	}
	if !q.compared || q.rest != kindEither8 {
		notes = append(notes, q.source+by+unknown+": "+stored)
	}
	if q.differ {
		notes = append(notes, q.source+" differs from that in text_config: "+stored)
	}
	return notes
}

// bundledPrefix is what a bundled checkpoint puts before the name of every text tensor.
const bundledPrefix = "language_model."

// sortedObjects yields the values of an object that are objects, in the order of their keys.
func sortedObjects(fields map[string]any) func(yield func(key string, value map[string]any) bool) {
	return func(yield func(key string, value map[string]any) bool) {
		for _, key := range slices.Sorted(maps.Keys(fields)) {
			if object, ok := fields[key].(objectText); ok && !yield(key, object.fields()) {
				return
			}
		}
	}
}
