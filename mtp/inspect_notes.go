package mtp

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// quantizationNotes says where what is declared and the stored tensors disagree on how
// weights are quantized. The tensors are right; an engine that believes the config misreads
// them. Nothing else depends on it: only Inspect asks, and a pattern that takes too long is a
// note too, not an error that comes and goes with the machine's load.
func (q *quantization) quantizationNotes(checkpoint *safetensors.Folder) []string {
	if q == nil || !q.compared {
		return nil
	}
	declared, err := q.compile()
	if err != nil {
		return []string{q.uncompared(err)}
	}
	counts := make(map[disagreement]int)
	var found []disagreement
	first := make(map[disagreement]string)
	for _, t := range checkpoint.Tensors() {
		module, ok := quantizableModule(t)
		if !ok {
			continue
		}
		says, err := declared.kindOf(module)
		if err != nil {
			return []string{q.uncompared(err)}
		}
		stored := kindStored(checkpoint, t)
		if says.is(stored) {
			continue
		}
		d := disagreement{stored, says}
		if counts[d]++; counts[d] == 1 {
			first[d], found = t.Name, append(found, d)
		}
	}
	slices.SortFunc(found, disagreement.compare)
	var notes []string
	for _, d := range found {
		notes = append(notes, fmt.Sprintf("%d weights are stored %s though %s, %s first: read as stored",
			counts[d], d.storedText(), q.saysText(d.says), safetensors.Printable(first[d])))
	}
	return notes
}

func (q *quantization) uncompared(err error) string {
	return fmt.Sprintf("%s is not compared with what is stored: %s", cmp.Or(q.ignoredKey, q.source), err)
}

// disagreement is how weights are stored, and what is declared.
type disagreement struct{ stored, says storedKind }

func (d disagreement) compare(e disagreement) int {
	return cmp.Or(cmp.Compare(d.stored, e.stored), cmp.Compare(d.says, e.says))
}

func (d disagreement) storedText() string {
	if d.stored == kindPlain {
		return "unquantized"
	}
	return "as " + string(d.stored)
}

// saysText completes "though …".
func (q *quantization) saysText(kind storedKind) string {
	switch {
	case kind == kindEither8:
		return "the config does not list them in " + q.ignoredKey
	case kind == kindPlain && q.rest == kindEither8:
		return "the config lists them in " + q.ignoredKey
	}
	by := q.source
	if q.source == quantizationKey {
		by += " by " + safetensors.Printable(q.method)
	}
	if kind == kindPlain {
		return by + " leaves them as they are"
	}
	return by + " says " + string(kind)
}

// declaredKinds answers how a module is said to be stored.
type declaredKinds struct {
	*quantization
	ignored *modules
	rules   []*modules
}

func (q *quantization) compile() (*declaredKinds, error) {
	d, c := &declaredKinds{quantization: q}, newPatternCompiler()
	var err error
	if d.ignored, err = c.compile(q.ignored); err != nil {
		return nil, err
	}
	for _, rule := range q.rules {
		m, err := c.compile(rule.modules)
		if err != nil {
			return nil, err
		}
		d.rules = append(d.rules, m)
	}
	return d, nil
}

func (d *declaredKinds) kindOf(module string) (storedKind, error) {
	if ignored, err := d.ignored.has(module); ignored || err != nil {
		return kindPlain, err
	}
	if kind, ok := d.layers[strings.TrimPrefix(module, bundledPrefix)]; ok {
		return kind, nil
	}
	for i, rule := range d.rules {
		if named, err := rule.has(module); named || err != nil {
			return d.quantization.rules[i].kind, err
		}
	}
	return d.rest, nil
}

// quantizableModule returns the module of a head's weight that a quantizer would
// take by default: a matrix of an MTP layer.
func quantizableModule(t *safetensors.Tensor) (module string, ok bool) {
	if _, ours := weights.MTPLayer(t.Name); !ours || len(t.Shape) != 2 {
		return "", false
	}
	if module, ok := strings.CutSuffix(t.Name, ".weight_packed"); ok {
		return module, true
	}
	return strings.CutSuffix(t.Name, ".weight")
}

// kindStored is how a weight is stored, by its dtype and that of the scales beside it.
func kindStored(checkpoint *safetensors.Folder, weight *safetensors.Tensor) storedKind {
	if weight.Dtype != safetensors.F8E4M3 && weight.Dtype != safetensors.U8 {
		return kindPlain
	}
	var scales safetensors.Dtype
	base := strings.TrimSuffix(weight.Name, "_packed")
	for _, name := range []string{base + "_scale", base + "_scale_inv"} {
		if t, ok := checkpoint.Tensor(name); ok {
			scales = t.Dtype
		}
	}
	switch eight := weight.Dtype == safetensors.F8E4M3; {
	case eight && (scales == safetensors.F32 || scales == safetensors.BF16):
		return kindFP8
	case eight:
		return kindMXFP8
	case scales == safetensors.F8E4M3:
		return kindNVFP4
	}
	return kindMXFP4
}

const modelOptFile = "hf_quant_config.json"

// modelOptNotes says what hf_quant_config.json says, which ModelOpt leaves beside a config,
// and compares it with what is stored where the config says nothing.
func (c *Config) modelOptNotes(fsys fs.FS, checkpoint *safetensors.Folder) []string {
	info, err := fs.Stat(fsys, modelOptFile)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	q := readModelOptFile(fsys, info.Size())
	switch {
	case q == nil:
		return []string{modelOptFile + " says something that cannot be read: what a tensor is stored as decides"}
	case c.quantization == nil:
		return append(q.notes(), q.quantizationNotes(checkpoint)...)
	}
	return q.notes()
}

// readModelOptFile returns nil for what cannot be read.
func readModelOptFile(fsys fs.FS, size int64) *quantization {
	if size > maxConfigSize {
		return nil
	}
	data, err := fs.ReadFile(fsys, modelOptFile)
	if err != nil {
		return nil
	}
	fields, _ := decodeObject(data, new(problems))
	inner, _ := fields["quantization"].(objectText)
	q := &quantization{source: modelOptFile, compared: true}
	values := inner.fields()
	if q.method, _ = values["quant_algo"].(string); q.method == "" {
		return nil
	}
	q.readModelOpt(values)
	return q
}
