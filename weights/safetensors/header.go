package safetensors

import (
	"bytes"
	"errors"
	"strconv"
	"unsafe"
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
	maxDimensions    = 1024 // of a tensor; those of models have up to 5
)

// header is what the JSON header says, with every rule checked.
type header struct {
	metadata map[string]string
	tensors  []Tensor        // in data order, with offsets from the start of the data section
	left     []string        // names of spared tensors that are left out, the first maxLeft
	unplaced bool            // the bytes of a tensor that is spared are not known
	repeated map[string]bool // names of spared tensors that were given twice, or have a key twice
}

// parseHeader parses the JSON header of a file whose data section has dataSize bytes. A text
// that is not an unambiguous JSON object is one error; what is wrong with the tensors is
// reported together, to bad. Names are parts of the text.
func parseHeader(text []byte, dataSize int64, bad *problems) (*header, error) {
	h := new(header)
	r, err := newJSONReader(text)
	if err == nil {
		err = h.read(r, bad)
	}
	if err != nil {
		return nil, inFile(err, bad.file)
	}
	// Layout is judged only once every entry is known to mean what it says:
	// one unreadable entry would show up as a hole as well.
	if len(bad.errs) == 0 {
		h.checkLayout(dataSize, bad)
	}
	if err := bad.err(); err != nil {
		return nil, err
	}
	return h, nil
}

const maxLeft = 10_000

func (h *header) leave(name string) {
	if len(h.left) < maxLeft {
		h.left = append(h.left, name)
	}
}

// leastEntry is the bytes of the shortest entry that has a place in the file.
const leastEntry = len(`"":{"data_offsets":[0,0]}`)

// read reads the object that the header is. Unlike white space after it, white
// space before its '{' is against the format.
func (h *header) read(r *jsonReader, bad *problems) error {
	if len(r.data) > 0 && r.data[0] != '{' {
		return r.notObject()
	}
	r.repeated = func(problem func() *FormatError) error {
		if len(r.path) == 0 || r.path[0] == metadataKey || !bad.spares(r.path[0]) {
			return problem()
		}
		bad.note(problem)
		if h.repeated == nil {
			h.repeated = make(map[string]bool)
		}
		h.repeated[r.path[0]] = true
		return nil
	}
	h.tensors = make([]Tensor, 0, min(bytes.Count(r.data, []byte("data_offsets")), len(r.data)/leastEntry))
	var entry entryReader
	err := r.object(func(key string) error {
		if key == metadataKey {
			if r.peek() == 'n' { // null, as some writers leave it
				return r.literal()
			}
			h.metadata = make(map[string]string)
			return r.object(r.stringMember(bad, func(key, value string) { h.metadata[key] = value }))
		}
		r.named = 1
		err := entry.read(r, key, bad)
		r.named = 0
		switch {
		case err != nil:
			if e, ok := errors.AsType[*FormatError](err); ok {
				e.Tensor = key
			}
		case len(bad.errs) > 0: // nobody will have the tensors
		case entry.sound&fieldOffsets == 0:
			h.unplaced = true
			h.leave(key)
		default:
			if entry.sound != allFields { // it takes its place, but what it is is not known
				entry.tensor.Dtype, entry.tensor.Shape = "", nil
			}
			h.tensors = append(h.tensors, entry.tensor)
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.end()
}

// entryReader reads the entries of tensors, one after another.
type entryReader struct {
	tensor       Tensor
	bad          *problems
	found, sound uint8 // fields
	numbers      []uint64
	inner        jsonReader // of a field
}

const (
	fieldDtype = 1 << iota
	fieldShape
	fieldOffsets
	allFields = fieldDtype | fieldShape | fieldOffsets
)

var fieldNames = [...]string{"dtype", "shape", "data_offsets"}

// read reads the value of one tensor. Its error is one of JSON; what the
// values mean wrongly goes to bad.
func (e *entryReader) read(r *jsonReader, name string, bad *problems) error {
	e.tensor, e.bad, e.found, e.sound = Tensor{Name: name}, bad, 0, 0
	if r.peek() != '{' {
		text, err := r.value()
		if err == nil {
			e.report(ruleNotObject, text, `{"dtype", "shape", "data_offsets"}`)
		}
		return err
	}
	unknown := false
	err := r.object(func(key string) error {
		text, err := r.value()
		if err != nil {
			return err
		}
		switch key {
		case "dtype":
			e.field(fieldDtype, e.decodeDtype(text), text, "a safetensors dtype")
		case "shape":
			e.field(fieldShape, e.decodeShape(text), text, "a list of non-negative integers")
		case "data_offsets":
			e.field(fieldOffsets, e.decodeOffsets(text), text, "[begin, end] with 0 <= begin <= end")
		default:
			unknown = true
			bad.report(name, func() *FormatError {
				return &FormatError{Tensor: name, Rule: ruleUnknownKey, Got: quote(key), Want: "dtype, shape and data_offsets"}
			})
		}
		return nil
	})
	for i, field := range fieldNames {
		if err == nil && e.found&(1<<i) == 0 {
			e.report(ruleMissingKey, nil, field)
		}
	}
	if unknown {
		e.sound &= fieldOffsets
	}
	return err
}

// field notes that a field was found, and whether it is right.
func (e *entryReader) field(field uint8, rule ruleText, text []byte, want string) {
	e.found |= field
	if rule == "" {
		e.sound |= field
		return
	}
	e.report(rule, text, want)
}

func (e *entryReader) report(rule ruleText, got []byte, want string) {
	name := e.tensor.Name
	e.bad.report(name, func() *FormatError {
		return &FormatError{Tensor: name, Rule: rule, Got: abbreviateBytes(got), Want: want}
	})
}

func (e *entryReader) decodeDtype(text []byte) ruleText {
	e.inner = jsonReader{data: text}
	name, err := e.inner.string()
	if err != nil {
		return ruleUnknownDtype
	}
	var known bool
	if e.tensor.Dtype, known = dtypeNamed(name); !known {
		return ruleUnknownDtype
	}
	return ""
}

func (e *entryReader) decodeShape(text []byte) ruleText {
	err := e.decodeIntegers(text, strconv.IntSize, maxDimensions)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return ruleSizeOverflow
	case err != nil || len(e.numbers) > maxDimensions:
		return ruleShape
	}
	e.tensor.Shape = make([]int, len(e.numbers))
	for i, d := range e.numbers {
		e.tensor.Shape[i] = int(d)
	}
	return ""
}

func (e *entryReader) decodeOffsets(text []byte) ruleText {
	err := e.decodeIntegers(text, 64, 2)
	if err != nil || len(e.numbers) != 2 || e.numbers[0] > e.numbers[1] {
		return ruleOffsets
	}
	e.tensor.offset, e.tensor.size = int64(e.numbers[0]), int64(e.numbers[1]-e.numbers[0])
	return ""
}

// decodeIntegers decodes a list of non-negative integers of at most bitSize bits with sign,
// and keeps the first most of them and one more. The error matches strconv.ErrRange or
// strconv.ErrSyntax.
func (e *entryReader) decodeIntegers(text []byte, bitSize, most int) error {
	e.numbers = e.numbers[:0]
	e.inner = jsonReader{data: text}
	return e.inner.array(func() error {
		number, err := e.inner.value()
		if err != nil {
			return err
		}
		// JSON allows 1.0 and 1e3 for integers; the format's owner does not.
		n, err := strconv.ParseUint(unsafe.String(unsafe.SliceData(number), len(number)), 10, bitSize-1)
		if len(e.numbers) <= most {
			e.numbers = append(e.numbers, n)
		}
		if e, ok := errors.AsType[*strconv.NumError](err); ok {
			return e.Err // without the text
		}
		return err
	})
}

// inFile names the file that an error of its text lies in.
func inFile(err error, file string) error {
	if e, ok := errors.AsType[*FormatError](err); ok {
		e.File = file
	}
	return err
}
