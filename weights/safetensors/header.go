package safetensors

import (
	"errors"
	"strconv"
)

// A safetensors file is
//
//	byte 0      8              8+n                         size
//	     ┌──────┬──────────────┬──────────────────────────┐
//	     │ n    │ JSON header  │ data section             │
//	     │ u64le│ n bytes      │ begin ──tensor── end     │
//	     └──────┴──────────────┴──────────────────────────┘
//
//	{"__metadata__": {"key": "value"},
//	 "name": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}}
//
// with offsets counted from the start of the data section, which the tensors
// tile without hole or overlap.
const (
	headerLengthSize = 8
	maxHeaderLength  = 100_000_000
	metadataKey      = "__metadata__"
)

// header is what the JSON header says, with every rule checked.
type header struct {
	metadata map[string]string
	entries  []entry // in data order
}

// entry describes one tensor.
type entry struct {
	name       string
	dtype      Dtype
	shape      []int
	begin, end int64 // bytes, from the start of the data section
}

// parseHeader parses the JSON header of a file whose data section has dataSize
// bytes. A text that is not an unambiguous JSON object is one error; what is
// wrong with the tensors is reported together.
func parseHeader(file string, text []byte, dataSize int64) (*header, error) {
	h := new(header)
	bad := problems{file: file}
	r, err := newJSONReader(text)
	if err == nil {
		err = h.read(r, &bad)
	}
	if err != nil {
		return nil, inFile(err, file)
	}
	// Layout is judged only once every entry is known to mean what it says:
	// one unreadable entry would show up as a hole as well.
	if len(bad.errs) == 0 {
		h.checkLayout(dataSize, &bad)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return h, nil
}

// read reads the object that the header is. Unlike white space after it, white
// space before its '{' is against the format.
func (h *header) read(r *jsonReader, bad *problems) error {
	if len(r.data) > 0 && r.data[0] != '{' {
		return r.notObject()
	}
	err := r.object(func(key string) error {
		if key == metadataKey {
			if r.peek() == 'n' { // null, as some writers leave it
				return r.literal()
			}
			h.metadata = make(map[string]string)
			return r.stringMap(h.metadata, bad)
		}
		r.named = 1
		e, err := readEntry(r, key, bad)
		r.named = 0
		h.entries = append(h.entries, e)
		if e, ok := errors.AsType[*FormatError](err); ok {
			e.Tensor = key
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.end()
}

// readEntry reads the value of one tensor. Its error is one of JSON; what the
// values mean wrongly goes to bad.
func readEntry(r *jsonReader, name string, bad *problems) (entry, error) {
	e := entry{name: name}
	report := func(rule ruleText, got []byte, want string) {
		bad.add(&FormatError{Tensor: name, Rule: rule, Got: abbreviate(string(got)), Want: want})
	}
	if r.peek() != '{' {
		text, err := r.value()
		if err == nil {
			report(ruleNotObject, text, `{"dtype", "shape", "data_offsets"}`)
		}
		return e, err
	}
	fields := [...]struct {
		key    string
		decode func(text []byte) ruleText // "": it is right
		want   string
		found  bool
	}{
		{key: "dtype", decode: e.decodeDtype, want: "a safetensors dtype"},
		{key: "shape", decode: e.decodeShape, want: "a list of non-negative integers"},
		{key: "data_offsets", decode: e.decodeOffsets, want: "[begin, end] with 0 <= begin <= end"},
	}
	err := r.object(func(key string) error {
		text, err := r.value()
		if err != nil {
			return err
		}
		for i := range fields {
			if f := &fields[i]; f.key == key {
				f.found = true
				if rule := f.decode(text); rule != "" {
					report(rule, text, f.want)
				}
				return nil
			}
		}
		report(ruleUnknownKey, []byte(quote(key)), "dtype, shape and data_offsets")
		return nil
	})
	for _, f := range fields {
		if err == nil && !f.found {
			report(ruleMissingKey, nil, f.key)
		}
	}
	return e, err
}

func (e *entry) decodeDtype(text []byte) ruleText {
	name, err := (&jsonReader{data: text}).string()
	if err != nil {
		return ruleUnknownDtype
	}
	var known bool
	if e.dtype, known = dtypeNamed(name); !known {
		return ruleUnknownDtype
	}
	return ""
}

func (e *entry) decodeShape(text []byte) ruleText {
	dims, err := decodeIntegers(text, strconv.IntSize)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return ruleSizeOverflow
	case err != nil:
		return ruleShape
	}
	e.shape = make([]int, len(dims))
	for i, d := range dims {
		e.shape[i] = int(d)
	}
	return ""
}

func (e *entry) decodeOffsets(text []byte) ruleText {
	offsets, err := decodeIntegers(text, 64)
	if err != nil || len(offsets) != 2 || offsets[0] > offsets[1] {
		return ruleOffsets
	}
	e.begin, e.end = offsets[0], offsets[1]
	return ""
}

// decodeIntegers decodes a list of non-negative integers of at most bitSize
// bits with sign. The error matches strconv.ErrRange or strconv.ErrSyntax.
func decodeIntegers(text []byte, bitSize int) ([]int64, error) {
	var list []int64
	r := &jsonReader{data: text}
	err := r.array(func() error {
		number, err := r.value()
		if err != nil {
			return err
		}
		// JSON allows 1.0 and 1e3 for integers; the format's owner does not.
		n, err := strconv.ParseUint(string(number), 10, bitSize-1)
		list = append(list, int64(n))
		return err
	})
	return list, err
}

// inFile names the file that an error of its text lies in.
func inFile(err error, file string) error {
	if e, ok := errors.AsType[*FormatError](err); ok {
		e.File = file
	}
	return err
}
