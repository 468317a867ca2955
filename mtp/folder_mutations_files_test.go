package mtp_test

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// fileMutations change files as such: their kind, their bytes, how tensors are dealt to them.
var fileMutations = []mutation{
	{"file cut", func(m *mutant) (verdict, bool) {
		names := m.shards()
		if len(names) == 0 {
			return fatal, false
		}
		n := 1 + m.pick(1<<16)
		m.edit(m.files[names[m.pick(len(names))]], func(data []byte) []byte { return data[:max(0, len(data)-n)] })
		return fatal, true
	}},
	{"file longer", func(m *mutant) (verdict, bool) {
		names := m.shards()
		if len(names) == 0 {
			return fatal, false
		}
		n := 1 + m.pick(300)
		m.edit(m.files[names[m.pick(len(names))]], func(data []byte) []byte { return append(data, make([]byte, n)...) })
		return fatal, true
	}},
	{"bytes", func(m *mutant) (verdict, bool) {
		_, f := m.anyFile()
		n := 1 + m.pick(4)
		at, to := make([]int, n), make([]byte, n)
		for i := range at {
			at[i], to[i] = m.pick(1<<16), byte(m.next())
		}
		m.edit(f, func(data []byte) []byte {
			for i := range at {
				if len(data) > 0 {
					data[at[i]%len(data)] = to[i]
				}
			}
			return data
		})
		return unknown, true
	}},
	{"text inserted", func(m *mutant) (verdict, bool) {
		_, f := m.anyFile()
		at, text := m.pick(1<<16), m.text()
		m.edit(f, func(data []byte) []byte { return slices.Insert(data, at%(len(data)+1), []byte(text)...) })
		return unknown, true
	}},
	{"file of another kind", func(m *mutant) (verdict, bool) {
		name, f := m.anyFile()
		m.files[name] = &mutantFile{mode: otherModes[m.pick(len(otherModes))], target: "nowhere"}
		if _, own := m.seed.files[name]; own && f.mode == 0 {
			return fatal, true
		}
		return unknown, true
	}},
	{"file with other contents", func(m *mutant) (verdict, bool) {
		name, _ := m.anyFile()
		m.files[name] = &mutantFile{text: []byte(otherFiles[m.pick(len(otherFiles))])}
		return unknown, true
	}},
	{"link to itself", func(m *mutant) (verdict, bool) {
		name, _ := m.anyFile()
		m.files[name] = &mutantFile{mode: fs.ModeSymlink, target: name}
		return unknown, true
	}},
	{"file through a link", func(m *mutant) (verdict, bool) {
		name, f := m.anyFile()
		if f.mode != 0 || m.files["blob"] != nil {
			return harmless, false
		}
		m.files[name], m.files["blob"] = &mutantFile{mode: fs.ModeSymlink, target: "blob"}, f
		return harmless, true
	}},
	{"file missing", func(m *mutant) (verdict, bool) {
		if len(m.files) == 1 {
			return unknown, false
		}
		name, _ := m.anyFile()
		delete(m.files, name)
		return unknown, true
	}},
	{"another file", func(m *mutant) (verdict, bool) {
		name := extraNames[m.pick(len(extraNames))]
		if m.files[name] != nil {
			return unknown, false
		}
		m.files[name] = &mutantFile{text: []byte(otherFiles[m.pick(len(otherFiles))])}
		if n := m.pick(2 * len(otherModes)); n < len(otherModes) {
			m.files[name] = &mutantFile{mode: otherModes[n], target: "nowhere"}
		}
		if m.files[indexFile] == nil && strings.HasSuffix(name, ".safetensors") && !strings.HasPrefix(name, ".") {
			return unknown, true
		}
		return harmless, true
	}},
	{"a copy of a file", func(m *mutant) (verdict, bool) {
		names := m.shards()
		if len(names) == 0 || m.files["x.safetensors"] != nil {
			return unknown, false
		}
		m.files["x.safetensors"] = m.files[names[m.pick(len(names))]].clone()
		if m.files[indexFile] == nil {
			return fatal, true
		}
		return harmless, true
	}},
	{"many files", func(m *mutant) (verdict, bool) {
		v := harmless
		if m.files[indexFile] == nil {
			v = unknown
		}
		text := otherFiles[m.pick(len(otherFiles))]
		for i := range 10 * (1 + m.pick(20)) {
			m.files[fmt.Sprintf("other-%d.safetensors", i)] = &mutantFile{text: []byte(text)}
		}
		return v, true
	}},
	{"shards", func(m *mutant) (verdict, bool) {
		names := m.shards()
		if len(names) == 0 || m.files["shard.safetensors"] != nil || m.indexed() == nil {
			return harmless, false
		}
		name := names[m.pick(len(names))]
		if name == "blob" { // the index knows it by the name of the link
			return harmless, false
		}
		s, index := m.files[name].shard, m.files[indexFile]
		at := m.pick(len(s.tensors))
		moved := &mutantShard{tensors: slices.Clone(s.tensors[at:])}
		s.tensors = s.tensors[:at]
		m.files["shard.safetensors"] = &mutantFile{shard: moved}
		for _, t := range moved.tensors {
			for i := range index.keys {
				if index.keys[i] == (jsonKey{"weight_map\x00" + t.name, quoteJSON(name)}) {
					index.keys[i].value = `"shard.safetensors"`
				}
			}
		}
		return harmless, true
	}},
	{"a copy of a tensor", func(m *mutant) (verdict, bool) {
		_, t, _ := m.tensor()
		if t == nil {
			return unknown, false
		}
		names := m.shards()
		s := m.files[names[m.pick(len(names))]].shard
		if slices.ContainsFunc(s.tensors, func(o mutantTensor) bool { return o.name == t.name }) {
			return unknown, false
		}
		stale := *t
		stale.data = slices.Repeat([]byte{0x3f}, len(t.data))
		s.tensors = append(s.tensors, stale)
		if m.files[indexFile] == nil {
			return fatal, true
		}
		return harmless, true
	}},
}
