package mtp

import (
	"cmp"
	"strings"

	"github.com/drafthead/drafthead/weights/safetensors"
)

// The methods beside mxfp8 and fp8 whose rules are read: what they say of a module's
// weights. What they say of activations and of the cache is not.

// readCompressedTensors reads config_groups, each with targets, a format or the arguments of
// its weights; format, which stands for all groups that have none; and ignore.
func (q *quantization) readCompressedTensors(fields map[string]any) {
	q.readIgnored(fields, moduleList{}, "ignore")
	groups, _ := fields["config_groups"].(objectText)
	for _, group := range sortedObjects(groups.fields()) {
		targets, ok := group["targets"].(listText)
		format, named := group["format"].(string)
		if !named {
			format, _ = fields["format"].(string)
		}
		kind, known := compressedKinds[format]
		if weights, ok := group["weights"].(objectText); !known && ok {
			kind, known = compressedKind(weights.fields())
		}
		if !known {
			q.unknown, kind = cmp.Or(format, "without a name"), kindUnknown
		}
		if ok {
			q.addRule(moduleList{}.of(targets), kind)
		}
	}
}

// compressedKinds are the formats that say it all.
var compressedKinds = map[string]storedKind{
	"dense": kindPlain, "mxfp4-pack-quantized": kindMXFP4, "nvfp4-pack-quantized": kindNVFP4,
	"mxfp8-quantized": kindMXFP8, "float-quantized": kindFP8,
}

// compressedKind is the kind of weights with these arguments.
func compressedKind(arguments map[string]any) (kind storedKind, known bool) {
	if kind, _ := arguments["type"].(string); kind != "float" {
		return kindUnknown, false
	}
	group := number(arguments["group_size"])
	switch number(arguments["num_bits"]) {
	case 4:
		return fourBitKind(group)
	case 8:
		if group == 32 {
			return kindMXFP8, true
		}
		return kindFP8, true
	}
	return kindUnknown, false
}

func fourBitKind(group int64) (kind storedKind, known bool) {
	switch group {
	case 16:
		return kindNVFP4, true
	case 32:
		return kindMXFP4, true
	}
	return kindUnknown, false
}

// number returns a whole number of a config; 0 for what is none.
func number(value any) int64 {
	n, _ := wholeNumber(jsonText(value))
	return n
}

// addRule adds a rule. Names and patterns come before classes, of which Linear alone has
// weights of the head: it is what all modules are that no rule names.
func (q *quantization) addRule(modules moduleList, kind storedKind) {
	named := modules.entries[:0]
	for _, entry := range modules.entries {
		if isClass(entry) {
			q.rest = kind
			continue
		}
		named = append(named, entry)
	}
	if modules.entries = named; len(named) > 0 {
		q.rules = append(q.rules, quantizationRule{modules, kind})
	}
}

// readQuark reads global_quant_config, layer_quant_config, whose keys are names that may
// have wildcards, layer_type_quant_config and exclude.
func (q *quantization) readQuark(fields map[string]any) {
	q.readIgnored(fields, moduleList{globs: true}, "exclude")
	q.rest = q.quarkKind(fields["global_quant_config"])
	types, _ := fields["layer_type_quant_config"].(objectText)
	for name, value := range types.fields() {
		if name == linearClass || strings.HasSuffix(name, "."+linearClass) {
			q.rest = q.quarkKind(value)
		}
	}
	layers, _ := fields["layer_quant_config"].(objectText)
	for name, value := range sortedObjects(layers.fields()) {
		if _, isPattern := (moduleList{globs: true}).pattern(name); isPattern && mayMatchHead(name) || headModule(name) {
			q.rules = append(q.rules, quantizationRule{moduleList{entries: []string{name}, globs: true}, q.quarkWeights(value)})
		}
	}
}

func (q *quantization) quarkKind(config any) storedKind {
	object, _ := config.(objectText)
	return q.quarkWeights(object.fields())
}

// quarkWeights is the kind of "weight" in a config of Quark.
func (q *quantization) quarkWeights(config map[string]any) storedKind {
	switch weight := config["weight"].(type) {
	case nil:
		return kindPlain
	case objectText:
		fields := weight.fields()
		dtype, _ := fields["dtype"].(string)
		element, _ := fields["mx_element_dtype"].(string)
		scales, _ := fields["scale_format"].(string)
		group := number(fields["group_size"])
		switch {
		case dtype == "fp4":
			if kind, known := fourBitKind(group); known {
				return kind
			}
		case dtype == "mx" && element == "fp4":
			return kindMXFP4
		case dtype == "mx" && element == "fp8_e4m3", dtype == "fp8_e4m3" && group == 32 && scales == "e8m0":
			return kindMXFP8
		case dtype == "fp8_e4m3":
			return kindFP8
		}
		q.unknown = dtype
	default:
		q.unknown = "of several steps"
	}
	return kindUnknown
}

// readModelOpt reads quant_algo, of all modules or of those of quantized_layers, and
// exclude_modules or ignore, whose names may have wildcards.
func (q *quantization) readModelOpt(fields map[string]any) {
	if inner, ok := fields["quantization"].(objectText); ok {
		fields = inner.fields()
	}
	q.readIgnored(fields, moduleList{globs: true, below: true}, "exclude_modules", "ignore")
	algorithm, _ := fields["quant_algo"].(string)
	if algorithm != "MIXED_PRECISION" {
		q.rest = q.modelOptKind(algorithm)
		return
	}
	q.layers = make(map[string]storedKind)
	layers, _ := fields["quantized_layers"].(objectText)
	if layers == nil {
		return
	}
	kept := 0
	texts, _ := safetensors.ParseObject(layers, func(name string) bool {
		if kept > mostLayers || !headModule(name) {
			return false
		}
		kept++
		return true
	})
	if kept > mostLayers {
		q.unknown = "of more layers than are compared"
	}
	for name, text := range texts {
		algorithm := ""
		if object, ok := decodeValue(text).(objectText); ok {
			algorithm, _ = object.fields()["quant_algo"].(string)
		}
		q.layers[strings.TrimPrefix(name, bundledPrefix)] = q.modelOptKind(algorithm)
	}
}

// mostLayers is how many modules of the head are compared that are named one by one.
const mostLayers = 1 << 13

// modelOptKind is the kind of weights of a quant_algo.
func (q *quantization) modelOptKind(algorithm string) storedKind {
	switch {
	case algorithm == "":
		return kindPlain
	case strings.Contains(algorithm, "NVFP4"):
		return kindNVFP4
	case strings.Contains(algorithm, "MXFP4"):
		return kindMXFP4
	case strings.Contains(algorithm, "MXFP8"):
		return kindMXFP8
	case strings.HasPrefix(algorithm, "FP8"):
		return kindFP8
	}
	q.unknown = algorithm
	return kindUnknown
}
