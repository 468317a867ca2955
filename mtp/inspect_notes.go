package mtp

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// quantizationNotes says where the config and the stored tensors disagree on what is
// quantized. The tensors are right; an engine that believes the config misreads them.
// Nothing else depends on it: only Inspect asks, and a pattern that takes too long is a
// note too, not an error that comes and goes with the machine's load.
func (c *Config) quantizationNotes(checkpoint *safetensors.Folder) []string {
	q := c.quantization
	if q == nil || !slices.Contains(comparedMethods, q.method) {
		return nil
	}
	uncompared := func(err error) []string {
		return []string{"ignored_layers is not compared with what is stored: " + err.Error()}
	}
	modules, err := newIgnoredModules(q.ignoredLayers)
	if err != nil {
		return uncompared(err)
	}
	var plain, ignored int
	var firstPlain, firstIgnored string
	for _, t := range checkpoint.Tensors() {
		module, ok := quantizableModule(t)
		if !ok {
			continue
		}
		says, err := modules.ignored(module)
		if err != nil {
			return uncompared(err)
		}
		switch stored := t.Dtype == safetensors.F8E4M3; {
		case !says && !stored:
			if plain++; plain == 1 {
				firstPlain = t.Name
			}
		case says && stored:
			if ignored++; ignored == 1 {
				firstIgnored = t.Name
			}
		}
	}
	var notes []string
	if plain > 0 {
		notes = append(notes, fmt.Sprintf("%d weights are stored unquantized though the config does not list them in ignored_layers, %s first: read as stored", plain, safetensors.Printable(firstPlain)))
	}
	if ignored > 0 {
		notes = append(notes, fmt.Sprintf("%d weights are stored quantized though the config lists them in ignored_layers, %s first: read as stored", ignored, safetensors.Printable(firstIgnored)))
	}
	return notes
}

// quantizableModule returns the module of a head's weight that a quantizer would
// take by default: a matrix of an MTP layer.
func quantizableModule(t *safetensors.Tensor) (module string, ok bool) {
	if _, ours := weights.MTPLayer(t.Name); !ours || len(t.Shape) != 2 {
		return "", false
	}
	return strings.CutSuffix(t.Name, ".weight")
}

// modelOptNotes says that hf_quant_config.json, which ModelOpt leaves beside a config, is
// not heeded either.
func modelOptNotes(fsys fs.FS) []string {
	const name, most = "hf_quant_config.json", 1 << 20
	info, err := fs.Stat(fsys, name)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	method := "something that cannot be read"
	if info.Size() <= most {
		if data, err := fs.ReadFile(fsys, name); err == nil {
			fields, _ := decodeObject(data, new(problems))
			inner, _ := fields["quantization"].(objectText)
			if algorithm, ok := inner.fields()["quant_algo"].(string); ok {
				method = safetensors.Printable(algorithm)
			}
		}
	}
	return []string{fmt.Sprintf("%s says %s: what a tensor is stored as decides", name, method)}
}
