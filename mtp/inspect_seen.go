package mtp

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/drafthead/drafthead/weights"
	"github.com/drafthead/drafthead/weights/safetensors"
)

// explain adds to the first problem of a module that is missing, or else of a tensor, what
// the folder holds that may be meant.
func (c *Config) explain(err error, fsys fs.FS, checkpoint *safetensors.Folder, modules moduleTensors) {
	first := map[string]*weights.Problem{} // by what is missing
	for _, problem := range weights.Problems(err) {
		p, ok := errors.AsType[*weights.Problem](problem)
		if !ok {
			continue
		}
		kind := ""
		switch bare := strings.TrimPrefix(p.Tensor, bundledPrefix); {
		case strings.HasPrefix(p.Note, "Failed to load MTP layer"):
			kind = "layer"
		case p.Rule == weights.ErrMissing && (bare == embedTokens || bare == lmHead):
			kind = bare
		case p.Rule == weights.ErrMissing:
			kind = "tensor"
		}
		if kind != "" && first[kind] == nil {
			first[kind] = p
		}
	}
	if len(first) == 0 {
		return
	}
	looks := lookAlikes(checkpoint)
	for kind, p := range first {
		p.Note = appendSeen(p.Note, looks[kind])
	}
	p := first["layer"]
	if p != nil {
		if there := modules.first(); there > 0 {
			p.Note = appendSeen(p.Note, fmt.Sprintf("the files hold %s; %s", modules, chooseModules(there)))
		}
		if c.nextn > 0 && c.nextn != c.NumMTPModules {
			p.Note = appendSeen(p.Note, fmt.Sprintf("num_nextn_predict_layers is %d", c.nextn))
		}
	}
	for _, kind := range []string{"layer", "tensor", embedTokens, lmHead} {
		if p := first[kind]; p != nil {
			p.Note = appendSeen(p.Note, unnamedFiles(fsys, checkpoint))
			break
		}
	}
}

func appendSeen(note, seen string) string {
	switch {
	case seen == "":
		return note
	case note == "":
		return seen
	}
	if strings.HasSuffix(note, ".") {
		return note + " What is there: " + seen
	}
	return note + "; " + seen
}

// String lists the modules: "module 0", "modules 0, 1 and 2".
func (m moduleTensors) String() string {
	const most = 8
	numbers := slices.Sorted(maps.Keys(m))
	if len(numbers) == 1 {
		return fmt.Sprintf("module %d", numbers[0])
	}
	text := "modules"
	for i, n := range numbers[:min(len(numbers), most)] {
		switch {
		case i > 0 && i == len(numbers)-1:
			text += " and"
		case i > 0:
			text += ","
		}
		text += fmt.Sprintf(" %d", n)
	}
	if len(numbers) > most {
		text += fmt.Sprintf(" and %d more", len(numbers)-most)
	}
	return text
}

// lookAlikes says which tensors have names like those of a module, embed_tokens and lm_head,
// but under another prefix.
func lookAlikes(checkpoint *safetensors.Folder) map[string]string {
	first, number := map[string]string{}, map[string]int{}
	look := func(name string) {
		if _, ours := weights.MapName(name); ours {
			return
		}
		kind := ""
		switch {
		case strings.Contains(name, "mtp."), strings.HasSuffix(name, ".enorm.weight"), strings.HasSuffix(name, ".hnorm.weight"), strings.HasSuffix(name, ".eh_proj.weight"):
			kind = "layer"
		case strings.HasSuffix(name, "embed_tokens.weight"):
			kind = embedTokens
		case strings.HasSuffix(name, lmHead):
			kind = lmHead
		default:
			return
		}
		if number[kind]++; number[kind] == 1 || name < first[kind] {
			first[kind] = name
		}
	}
	for _, t := range checkpoint.Tensors() {
		look(t.Name)
	}
	for name := range checkpoint.Index() {
		if _, opened := checkpoint.Tensor(name); !opened {
			look(name)
		}
	}
	want := map[string]string{"layer": tensorName(0, "enorm.weight"), embedTokens: embedTokens, lmHead: lmHead}
	for kind, name := range first {
		more := ""
		if n := number[kind] - 1; n > 0 {
			more = fmt.Sprintf(" and %d more look", n)
		} else {
			more = " looks"
		}
		first[kind] = fmt.Sprintf("%s%s alike but for the prefix, as in %s", safetensors.Printable(name), more, want[kind])
	}
	return first
}

// unnamedFiles says which safetensors files of the folder hold tensors of the head though
// the index does not name them.
func unnamedFiles(fsys fs.FS, checkpoint *safetensors.Folder) string {
	const mostFiles = 32
	unnamed := make(map[string]bool)
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return ""
	}
	for _, e := range entries {
		unnamed[e.Name()] = true
	}
	indexed := false
	for _, file := range checkpoint.Index() {
		delete(unnamed, file)
		indexed = true
	}
	if !indexed {
		return ""
	}
	var found []string
	looked := 0
	for _, e := range entries {
		name := e.Name()
		if !unnamed[name] || !e.Type().IsRegular() && e.Type()&fs.ModeSymlink == 0 || path.Ext(name) != ".safetensors" || strings.HasPrefix(name, ".") {
			continue
		}
		if looked++; looked > mostFiles {
			break
		}
		if n := headTensors(fsys, name); n > 0 {
			found = append(found, fmt.Sprintf("%s (%s of the head)", safetensors.Printable(name), count(n, "tensor")))
		}
	}
	if len(found) == 0 {
		return ""
	}
	return "model.safetensors.index.json does not name " + strings.Join(found, ", ")
}

// headTensors counts the tensors of the head in a file; 0 if it cannot be read.
func headTensors(fsys fs.FS, name string) (n int) {
	file, err := safetensors.Open(fsys, name)
	if err != nil {
		return 0
	}
	defer file.Close()
	for _, t := range file.Tensors() {
		if _, ours := weights.MapName(t.Name); ours {
			n++
		}
	}
	return n
}
