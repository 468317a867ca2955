package mtp_test

import (
	"slices"
	"strconv"
	"strings"
)

// textMutations change config.json and the index.
var textMutations = []mutation{
	{"config value", onConfig(unknown, func(m *mutant, f *mutantFile) { f.keys[m.pick(len(f.keys))].value = m.value() })},
	{"config number", onConfig(unknown, func(m *mutant, f *mutantFile) { f.keys[m.pick(len(f.keys))].value = m.number() })},
	{"config key missing", onConfig(unknown, func(m *mutant, f *mutantFile) {
		i := m.pick(len(f.keys))
		f.keys = slices.Delete(f.keys, i, i+1)
	})},
	{"config key twice", onConfig(unknown, func(m *mutant, f *mutantFile) {
		i := m.pick(len(f.keys))
		f.keys = slices.Insert(f.keys, i, jsonKey{f.keys[i].path, m.value()})
	})},
	{"config key", onConfig(unknown, func(m *mutant, f *mutantFile) {
		key := knownKeys[m.pick(len(knownKeys))]
		if m.seed.files[indexFile] != nil && m.pick(2) == 0 {
			key = "text_config\x00" + key
		}
		f.keys = append(f.keys, jsonKey{key, m.value()})
	})},
	{"strange config key", onConfig(unknown, func(m *mutant, f *mutantFile) { f.keys = append(f.keys, jsonKey{m.text(), m.value()}) })},
	{"config key of others", onConfig(harmless, func(m *mutant, f *mutantFile) {
		f.keys = append(f.keys, jsonKey{"vision_" + strconv.Itoa(len(f.keys)), []string{"NaN", "-Infinity", "null", `"\u001b[0m"`, "1e999", "[[{}]]", "16.0"}[m.pick(7)]})
	})},
	{"whole number as a fraction", onConfig(harmless, func(m *mutant, f *mutantFile) {
		if k := &f.keys[m.pick(len(f.keys))]; strings.Trim(k.value, "0123456789") == "" {
			k.value += ".0"
		}
	})},
	{"many config keys", onConfig(unknown, func(m *mutant, f *mutantFile) {
		key, value := m.text(), m.value()
		key, value = key[:min(len(key), 60)], value[:min(len(value), 60)]
		for i := range 100 * (1 + m.pick(20)) {
			f.keys = append(f.keys, jsonKey{key + strconv.Itoa(i), value})
		}
	})},
	{"long config key", onConfig(unknown, func(m *mutant, f *mutantFile) {
		f.keys = append(f.keys, jsonKey{strings.Repeat(m.text(), 20), m.value()})
	})},
	{"many ignored layers", onConfig(unknown, func(m *mutant, f *mutantFile) {
		one := quoteJSON("re:" + m.text())
		if m.pick(2) == 0 {
			one = m.value()
		}
		one = strings.Repeat(one[:min(len(one), 100)]+",", 50*(1+m.pick(20)))
		f.keys = append(f.keys, jsonKey{"quantization_config", `{"quant_method":"fp8","ignored_layers":[` + one + `""]}`})
	})},
	{"byte order mark", func(m *mutant) (verdict, bool) {
		f := m.json([]string{"config.json", indexFile}[m.pick(2)])
		if f == nil {
			return harmless, false
		}
		v := harmless
		if len(f.edits) > 0 { // a mark that does not come first
			v = unknown
		}
		m.edit(f, func(data []byte) []byte { return append([]byte("\ufeff"), data...) })
		return v, true
	}},
	{"white space", func(m *mutant) (verdict, bool) {
		f := m.json([]string{"config.json", indexFile}[m.pick(2)])
		if f == nil {
			return harmless, false
		}
		v := harmless
		if len(f.edits) > 0 { // a mark that does not come first
			v = unknown
		}
		m.edit(f, func(data []byte) []byte { return slices.Concat([]byte(" \r\n\t"), data, []byte("\n\n")) })
		return v, true
	}},

	{"index", onIndex(harmless, func(*mutant, *mutantFile) {})},
	{"index missing", func(m *mutant) (verdict, bool) {
		if m.files[indexFile] == nil || len(m.done) > 0 {
			return harmless, false
		}
		delete(m.files, indexFile)
		return harmless, true
	}},
	{"index entry", onIndex(unknown, func(m *mutant, f *mutantFile) { f.keys[m.pick(len(f.keys))].value = m.value() })},
	{"index file", onIndex(unknown, func(m *mutant, f *mutantFile) {
		name, _ := m.anyFile()
		f.keys[m.pick(len(f.keys))].value = quoteJSON(name)
	})},
	{"index entry missing", onIndex(fatal, func(m *mutant, f *mutantFile) {
		i := m.pick(len(f.keys))
		f.keys = slices.Delete(f.keys, i, i+1)
	})},
	{"index of others", onIndex(harmless, func(m *mutant, f *mutantFile) {
		f.keys = append(f.keys, jsonKey{"weight_map\x00visual.x" + strconv.Itoa(len(f.keys)), `"absent.safetensors"`})
	})},
	{"strange index key", onIndex(unknown, func(m *mutant, f *mutantFile) {
		f.keys = append(f.keys, jsonKey{"weight_map\x00" + m.text(), quoteJSON(m.text())})
	})},
	{"many index entries", onIndex(unknown, func(m *mutant, f *mutantFile) {
		tensor, file := m.text(), m.text()
		tensor, file = tensor[:min(len(tensor), 60)], file[:min(len(file), 60)]
		for i := range 100 * (1 + m.pick(20)) {
			f.keys = append(f.keys, jsonKey{"weight_map\x00" + tensor + strconv.Itoa(i), quoteJSON(file + strconv.Itoa(i) + ".safetensors")})
		}
	})},
	{"a great many", func(m *mutant) (verdict, bool) {
		const n = 30_000
		if m.pick(4) > 0 { // it takes long
			return unknown, false
		}
		name := m.text()
		name = name[:min(len(name), 20)]
		config, names := m.json("config.json"), m.shards()
		switch m.pick(4) {
		case 0:
			if len(names) == 0 {
				return unknown, false
			}
			s := m.files[names[m.pick(len(names))]].shard
			for i := range n {
				t := m.foreign()
				t.name = name + strconv.Itoa(i)
				s.tensors = append(s.tensors, t)
			}
		case 1:
			f := m.indexed()
			if f == nil {
				return unknown, false
			}
			for i := range n {
				f.keys = append(f.keys, jsonKey{"weight_map\x00" + name + strconv.Itoa(i), quoteJSON("x" + strconv.Itoa(i%1000) + ".safetensors")})
			}
		case 2:
			if config == nil {
				return unknown, false
			}
			for i := range n {
				config.keys = append(config.keys, jsonKey{name + strconv.Itoa(i), "1"})
			}
		case 3:
			if config == nil {
				return unknown, false
			}
			value := strings.Repeat(quoteJSON(name)+",", n)
			config.keys = append(config.keys, jsonKey{"quantization_config", `{"quant_method":"fp8","ignored_layers":[` + value + `""]}`})
		}
		return unknown, true
	}},
	{"index at the top", onIndex(unknown, func(m *mutant, f *mutantFile) { f.keys = append(f.keys, jsonKey{m.text(), m.value()}) })},
}
